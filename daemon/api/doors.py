"""The doors of the REST API: who calls is found out before anything of a call is read.

Tokens are asked for as soon as one is in force, and always on an address that others can reach, unless the
settings say that its network is trusted. What a caller may do is decided per route, in `security`.
"""

import logging
import re
from collections.abc import Callable
from time import monotonic

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.api.callers import ANYBODY, Caller, Callers
from daemon.api.errors import RateLimited, Refused, Unauthorized, WebPageRefused
from daemon.api.problems import problem_of
from daemon.api.rates import Buckets
from daemon.api.security import OPEN_PATHS
from daemon.settings import Settings
from robot_bridge.addresses import is_loopback

log = logging.getLogger(__name__)

BURST_S = 3.0  # how many seconds' worth of calls may come at once
FAILURES_PER_S, FAILURES_BURST = 10 / 60, 10  # of one peer; a wrong token can cost a hash, 50 ms of one core
ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[0-9A-Za-z.-]+)(?::\d+)?")
CHALLENGE = 'Bearer realm="gymnastd"'


class Doors:
    """ASGI middleware, the outermost: puts the caller into the request's state, or answers 401, 403 or 429.

    Nobody is counted who is on this machine and was not asked for a token: the machine is theirs.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        self._app = app
        self._trusts_network = settings.trust_network
        self._stays_here = is_loopback(settings.host)
        per_s = settings.rate_limit_per_s
        self._calls = Buckets(per_s=per_s, burst=max(1.0, per_s * BURST_S), clock=clock)
        self._failures = Buckets(per_s=FAILURES_PER_S, burst=FAILURES_BURST, clock=clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            caller = ANYBODY if scope["path"] in OPEN_PATHS else await self._caller(scope)
            self._count(caller, _peer(scope))
        except Refused as refused:
            log.warning(
                "call refused code=%s method=%s path=%r peer=%s",
                refused.code, scope["method"], scope["path"][:200], _peer(scope),
            )  # fmt: skip
            await _answer(refused)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        callers: Callers = scope["app"].state.services.callers
        if (self._stays_here or self._trusts_network) and not await _asks(callers):
            _require_no_page_from_elsewhere(scope)
            return ANYBODY
        token, found = bearer_token(scope)
        caller = None if token is None else callers.remembered(token)
        return caller or await self._checked(callers, token, peer=_peer(scope), found=found)

    async def _checked(self, callers: Callers, token: str | None, *, peer: str, found: str) -> Caller:
        """Who it is by the database; whoever guesses has to wait, and no hash is computed meanwhile."""
        if token is None or not callers.has_fitted(token):
            after_s = self._failures.wait_s(peer)
            if after_s:
                raise RateLimited(after_s=after_s, what="calls with a wrong token, or none")
        caller = None if token is None else await run_in_threadpool(callers.check, token)
        if caller is None:
            self._failures.take(peer)
            raise Unauthorized(found=found)
        return caller

    def _count(self, caller: Caller, peer: str) -> None:
        if caller.token_id is None and self._stays_here:
            return
        after_s = self._calls.take(caller.token_id or peer)
        if after_s:
            raise RateLimited(after_s=after_s, what="calls")


def bearer_token(scope: Scope) -> tuple[str | None, str]:
    """The token that was sent, and in words what was found; the words never hold it."""
    sent = [value for name, value in scope["headers"] if name == b"authorization"]
    if not sent:
        return None, "none"
    scheme, _, token = sent[0].decode("latin-1").partition(" ")
    if len(sent) > 1 or scheme.lower() != "bearer" or not token.strip():
        return None, "another authorization"
    return token.strip(), "one that is not in force"


def _require_no_page_from_elsewhere(scope: Scope) -> None:
    """While nobody shows a token, a page that is open in somebody's browser must not act for them."""
    origin = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"), None)
    found = None if origin is None else ORIGIN.fullmatch(origin)
    if origin is not None and not (found and is_loopback(found[1].strip("[]"))):
        raise WebPageRefused(origin=origin)


async def _asks(callers: Callers) -> bool:
    asking = callers.asks_for_token()
    return await run_in_threadpool(callers.check_whether_to_ask) if asking is None else asking


def _answer(refused: Refused) -> Response:
    answer = problem_of(refused)
    if isinstance(refused, Unauthorized):
        answer.headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(refused, RateLimited):
        answer.headers["Retry-After"] = str(refused.after_s)
    return answer


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "unknown"
