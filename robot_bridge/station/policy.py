"""What the owner of a station decides about it: how patient, how long at work, whom it may call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from robot_bridge.errors import EndpointRefused
from robot_bridge.policy_link import HttpPolicyLink, checked_endpoint
from robot_bridge.station.policy_tokens import PolicyTokens

SPOOL_LIMIT_BYTES: Final = 4 * 1024**3  # about three thousand episodes of 40 steps
LOOPBACK_ENDPOINTS: Final = ("http://127.0.0.1", "http://localhost", "http://[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class StationPolicy:
    """The local rules of one station; nothing that comes over the wire changes them.

    Attributes:
        spool_limit: bytes of finished episodes above which no new one starts.
        hold_after_ms, abort_after_ms: how long a running episode may wait for its next step before the arm
            holds, and before it ends.
        park_after_s: how long the arm stands unleased before it is parked.
        work_s, rest_s: seconds of motion after which the motors rest, and for how long.
        max_episode_s: the longest an episode may run, from its first step.
        policy_endpoints: beginnings of the addresses that a callback episode may name.
        motor_poll_s: how old the motors' status may get.
        act_timeout_s: how long a policy may take to decide.
        policy_tokens: what is shown to policies that ask for a token.
    """

    spool_limit: int = SPOOL_LIMIT_BYTES
    hold_after_ms: int = 600
    abort_after_ms: int = 5000
    park_after_s: float = 30.0
    work_s: float = 6 * 3600.0
    rest_s: float = 20 * 60.0
    max_episode_s: float = 600.0
    policy_endpoints: tuple[str, ...] = LOOPBACK_ENDPOINTS
    motor_poll_s: float = 1.0
    act_timeout_s: float = 2.0
    policy_tokens: PolicyTokens | None = None

    @property
    def abort_after_s(self) -> float:
        return self.abort_after_ms / 1000.0

    def connect(self, endpoint: str) -> HttpPolicyLink:
        """The way to a policy, with the token of its origin where there is one.

        Raises:
            EndpointRefused: not a plain address.
        """
        token = None if self.policy_tokens is None else self.policy_tokens.of(endpoint)
        return HttpPolicyLink(endpoint, token=token, timeout_s=self.act_timeout_s)

    def require_endpoint(self, endpoint: str | None) -> str:
        """The endpoint, when one of `policy_endpoints` allows it: same scheme and host, same port where one
        is named, and below its path.

        Raises:
            EndpointRefused: none given, not a plain address, or not an allowed one.
        """
        expected = "one that begins with " + " or ".join(self.policy_endpoints)
        if endpoint is None:
            raise EndpointRefused(found="(none)", expected=expected)
        plain = checked_endpoint(endpoint)
        if not plain.isascii() or not plain.isprintable() or set(plain) & set(" \\%") or ".." in plain:
            raise EndpointRefused(found=repr(plain), expected=expected)
        if not any(_allows(urlsplit(allowed), urlsplit(plain)) for allowed in self.policy_endpoints):
            raise EndpointRefused(found=plain, expected=expected)
        return plain


def _allows(allowed: SplitResult, wanted: SplitResult) -> bool:
    same_host = (allowed.scheme, allowed.hostname) == (wanted.scheme, wanted.hostname)
    same_port = allowed.port is None or allowed.port == wanted.port
    folder = allowed.path.rstrip("/")
    return same_host and same_port and (wanted.path == folder or wanted.path.startswith(folder + "/"))
