"""The tokens that a station shows to the policies of its callback episodes, each to its own origin only.

They come from a file at the station. Who may call the station itself is in `tokens`; which policies it may
ask at all, in `policy`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from robot_bridge.addresses import is_loopback
from robot_bridge.errors import EndpointRefused, RobotBridgeError
from robot_bridge.policy_link import TOKEN, checked_endpoint

Origin: TypeAlias = tuple[str, str, int]  # scheme, host, port

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_FILE_BYTES: Final = 64 * 1024


class PolicyTokensInvalid(RobotBridgeError):
    """What the file holds is in no sentence of this error."""

    code = "policy_tokens_invalid"
    sentence = (
        "{path} gives no tokens to policies: {reason}. Write lines of an origin, a space and a token, "
        "readable by the station alone (mode 0600)."
    )


class PolicyTokens:
    """Which token belongs to which origin. It neither prints nor compares what it holds."""

    def __init__(self, tokens: dict[Origin, str]) -> None:
        self._tokens = dict(tokens)

    def __repr__(self) -> str:
        return f"PolicyTokens(of {len(self._tokens)} origins)"

    def of(self, endpoint: str) -> str | None:
        """The token of the endpoint's own scheme, host and port; None where there is none.

        Raises:
            EndpointRefused: not a plain address.
        """
        return self._tokens.get(origin_of(endpoint))


def read_policy_tokens(path: Path) -> PolicyTokens:
    """Read a file of lines `https://policy.lab:8402 the-token`; empty lines and those with a # are skipped.

    Raises:
        PolicyTokensInvalid: it cannot be read, others may use it, a line is none of these, an origin
            comes twice, or its token would travel in the open.
    """
    tokens: dict[Origin, str] = {}
    for number, line in enumerate(_private_text(path).splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        reason = _fault_of(words, tokens)
        if reason:
            raise PolicyTokensInvalid(path=path, reason=f"line {number} {reason}")
        tokens[origin_of(words[0])] = words[1]
    if not tokens:
        raise PolicyTokensInvalid(path=path, reason="it holds no token")
    return PolicyTokens(tokens)


def origin_of(endpoint: str) -> Origin:
    """Scheme, host and port of an endpoint; the port of the scheme where none is named.

    Raises:
        EndpointRefused: not a plain address.
    """
    parts = urlsplit(checked_endpoint(endpoint))
    return parts.scheme, str(parts.hostname), parts.port or DEFAULT_PORTS[parts.scheme]


def _fault_of(words: list[str], known: dict[Origin, str]) -> str:
    """What is wrong with a line, in words that hold nothing of it; "" when nothing is."""
    if len(words) != 2:
        return f"has {len(words)} words, expected two"
    try:
        origin = origin_of(words[0])
    except EndpointRefused:
        return "does not begin with an http(s) address"
    if urlsplit(words[0]).path.rstrip("/"):
        return "has a path behind its host; a token belongs to a whole origin"
    if origin[0] != "https" and not is_loopback(origin[1]):
        return "has an http address beyond this machine: everybody on the way could read the token"
    if origin in known:
        return "names an origin again"
    return "" if TOKEN.fullmatch(words[1]) else "has a token that no header can carry"


def _private_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(MAX_FILE_BYTES + 1)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise PolicyTokensInvalid(path=path, reason=f"others may use it, its mode is {mode:04o}")
        if len(content) > MAX_FILE_BYTES:
            raise PolicyTokensInvalid(path=path, reason=f"it is larger than {MAX_FILE_BYTES} bytes")
        return content.decode("ascii")
    except OSError as cause:
        raise PolicyTokensInvalid(path=path, reason=cause.strerror or "it cannot be read") from cause
    except UnicodeDecodeError:
        raise PolicyTokensInvalid(path=path, reason="it is no text") from None
