"""Who is on this machine: the one answer that binding, tokens and an operator's calls depend on."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether what somebody wrote as a host, a name or an address, is this machine."""
    return host == "localhost" or is_loopback_peer(host)


def is_loopback_peer(address: str) -> bool:
    """Whether a connection comes from this machine; a peer is an address, and a name proves nothing.

    An IPv4 address may be written in IPv6.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)
