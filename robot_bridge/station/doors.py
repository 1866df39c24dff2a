"""Who gets in: every call of robot-station/v1 has a scope, and a caller has the scopes of its token.

Without a token file a station is bound to loopback, and whoever is on the machine may observe, drive, label
and stop; nobody may operate. Tokens themselves are in `tokens`.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl

from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Call

from robot_bridge.addresses import is_loopback_peer
from robot_bridge.errors import BadRequest, Forbidden, RateLimited, RobotBridgeError, Unauthorized
from robot_bridge.station.problems import answer_problem
from robot_bridge.station.tokens import SECRET_PREFIX, Scope, Token, TokenFile

log = logging.getLogger(__name__)

ONE: Final = "[^/]+"  # one segment of a path
EPISODE: Final = f"/v1/episodes/{ONE}"
CALLS: Final[tuple[tuple[str, str, Scope | None], ...]] = (
    ("GET", "/v1/health", None),
    ("GET", "/openapi.json", "observe"),
    ("GET", "/v1/station", "observe"),
    ("GET", "/v1/status", "observe"),
    ("GET", "/v1/snapshot", "observe"),
    ("GET", "/v1/events", "observe"),
    ("GET", "/v1/episodes", "observe"),
    ("GET", EPISODE, "observe"),
    ("GET", f"{EPISODE}/state", "observe"),
    ("GET", f"{EPISODE}/labels", "observe"),
    ("GET", f"{EPISODE}/blobs/{ONE}", "observe"),
    ("POST", "/v1/leases", "drive"),
    ("POST", f"/v1/leases/{ONE}/heartbeat", "drive"),
    ("DELETE", f"/v1/leases/{ONE}", "drive"),
    ("POST", "/v1/episodes", "drive"),
    ("POST", f"{EPISODE}/start", "drive"),
    ("POST", f"{EPISODE}/steps", "drive"),
    ("POST", f"{EPISODE}/finish", "drive"),
    ("POST", f"{EPISODE}/ack", "drive"),  # it makes the station forget, so looking is not enough
    ("POST", "/v1/resets", "drive"),
    ("POST", f"{EPISODE}/labels", "label"),
    ("POST", "/v1/estop", "estop"),
    ("POST", "/v1/estop/clear", "operate"),
    ("POST", "/v1/human/done", "operate"),
    ("POST", f"/v1/maintenance/{ONE}", "operate"),
)
PATTERNS: Final = tuple((method, re.compile(path), scope) for method, path, scope in CALLS)
WITHOUT_TOKENS: Final[frozenset[Scope]] = frozenset({"observe", "drive", "label", "estop"})
TOKEN_PARAMETERS: Final = {"token", "access_token", "bearer", "authorization", "api_key", "apikey"}
FAILURES_MAX: Final = 10  # in a minute, of one peer
FAILURES_WITHIN_S: Final = 60.0
PEERS_MAX: Final = 1000


class Doors:
    """ASGI middleware: lets a call through, or answers unauthorized, forbidden or rate_limited.

    A route that is not in the table above needs `operate`. `operate` is for loopback peers only.
    """

    def __init__(
        self, app: ASGIApp, *, tokens: TokenFile | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._failures = _Failures(clock)

    async def __call__(self, scope: Call, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._admit(scope)
        except RobotBridgeError as error:
            answer = answer_problem(error)
            if isinstance(error, Unauthorized):
                answer.headers["WWW-Authenticate"] = "Bearer"
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admit(self, call: Call) -> None:
        name = f"{call['method']} {call['path']}"
        _require_no_token_in_url(call, name)
        is_listed, needed = scope_of(call["method"], call["path"])
        if not is_listed:
            if not _is_routed(call):
                return  # the app says that it has no such call
            needed = "operate"
        if needed is None:
            return
        if needed != "estop":
            _require_no_web_page(call, name)
        token = self._caller(call, name, needed=needed)
        scopes = WITHOUT_TOKENS if token is None else token.scopes
        if needed not in scopes:
            who = "(none)" if token is None else token.name
            raise Forbidden(call=name, expected=needed, name=who, found=", ".join(sorted(scopes)) or "none")
        if needed == "operate" and not is_loopback_peer(_peer(call)):
            raise Forbidden(
                call=name, expected="operate at the station itself", name="(any)", found="a remote peer"
            )

    def _caller(self, call: Call, name: str, *, needed: Scope) -> Token | None:
        """Whose call this is; None where no token is asked for."""
        if self._tokens is None:
            return None
        secret, found = _bearer(call)
        token = None if secret is None else self._tokens.check(secret, fresh=needed != "estop")
        if token is not None:
            return token
        peer = _peer(call)
        retry_after_s = self._failures.add(peer)
        if retry_after_s and needed != "estop":
            raise RateLimited(call=name, limit=FAILURES_MAX, retry_after_s=retry_after_s)
        log.warning("call without a known token call=%r peer=%s found=%s", name, peer, found)
        raise Unauthorized(call=name, found=found)


class _Failures:
    """Who showed a wrong token how often lately; of the peers that did not for longest, nothing is kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[str, deque[float]] = {}

    def add(self, peer: str) -> int:
        """Count one more; gives the seconds that the peer must wait, 0 when it may try on."""
        with self._lock:
            now = self._clock()
            times = self._times.pop(peer, deque(maxlen=FAILURES_MAX))
            self._times[peer] = times
            while len(self._times) > PEERS_MAX:
                del self._times[next(iter(self._times))]
            while times and times[0] <= now - FAILURES_WITHIN_S:
                times.popleft()
            if len(times) == FAILURES_MAX:
                return max(1, round(times[0] + FAILURES_WITHIN_S - now))
            times.append(now)
            return 0


def scope_of(method: str, path: str) -> tuple[bool, Scope | None]:
    """Whether a call is one of robot-station/v1, and the scope it needs; None: nothing."""
    for listed, pattern, scope in PATTERNS:
        if method == listed and pattern.fullmatch(path):
            return True, scope
    return False, None


def _is_routed(call: Call) -> bool:
    return any(route.matches(call)[0] is Match.FULL for route in call["app"].router.routes)


def _bearer(call: Call) -> tuple[str | None, str]:
    """The secret that was sent, and in words what was found; the words never hold it."""
    sent = [value for name, value in call["headers"] if name == b"authorization"]
    if not sent:
        return None, "none"
    scheme, _, secret = sent[0].decode("latin-1").partition(" ")
    if len(sent) > 1 or scheme.lower() != "bearer" or not secret.strip():
        return None, "another authorization"
    return secret.strip(), "an unknown one"


def _require_no_token_in_url(call: Call, name: str) -> None:
    query = call.get("query_string", b"").decode("latin-1")
    names = {parameter.lower() for parameter, _ in parse_qsl(query, keep_blank_values=True)}
    if names & TOKEN_PARAMETERS or SECRET_PREFIX in query:
        reason = "a token in the URL ends up in logs; revoke it and send another as a bearer token"
        raise BadRequest(thing=name, reason=reason)


def _require_no_web_page(call: Call, name: str) -> None:
    """A browser says where a page came from; no page drives a robot, whatever is open beside the station."""
    if any(header == b"origin" for header, _ in call["headers"]):
        raise BadRequest(thing=name, reason="it came from a web page (Origin header)")


def _peer(call: Call) -> str:
    client = call.get("client")
    return str(client[0]) if client else "unknown"
