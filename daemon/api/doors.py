"""The doors of the REST API: who calls is found out before anything of a call is read.

Tokens are asked for as soon as one is in force, and always on an address that others can reach, unless the
settings say that its network is trusted. What a caller may do is decided per route, in `security`.

Programs show a token. Browsers show the cookie of a session instead, see `sessions`; one that has neither and
asks for a page is sent to the login page.
"""

import logging
import re
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TypeVar
from urllib.parse import quote

from anyio import CapacityLimiter, fail_after, to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.api.callers import ANYBODY, STRANGER, Caller, Callers
from daemon.api.errors import RateLimited, Refused, Unauthorized, WebPageRefused
from daemon.api.problems import problem_of
from daemon.api.rates import Buckets
from daemon.api.security import OPEN_PATHS, READING, TELLS_MORE
from daemon.api.sessions import NOBODY, Sessions, session_name
from daemon.errors import DatabaseAway
from daemon.settings import Settings
from robot_bridge.addresses import is_loopback

log = logging.getLogger(__name__)

BURST_S = 3.0  # how many seconds' worth of calls may come at once
FAILURES_PER_S, FAILURES_BURST = 10 / 60, 10  # of one peer; a wrong token can cost a hash, 50 ms of one core
ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[0-9A-Za-z.-]+)(?::\d+)?")
API = "/v1/"
STOPS = frozenset({"/v1/estop", "/estop"})  # nobody has called too often to stop a robot
PATIENCE_S = 1.0  # how long a stop waits for the database to say who calls
THREADS = 4  # on which tokens are looked up
Answer = TypeVar("Answer")
CHALLENGE = 'Bearer realm="gymnastd"'


class Doors:
    """ASGI middleware before all that reads a call: the caller into its state, or an answer 401, 403 or 429.

    Nobody is counted who is on this machine and was not asked for a token: the machine is theirs.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        clock: Callable[[], float] = monotonic,
        failures: Buckets | None = None,
    ) -> None:
        self._app = app
        self._port = settings.port
        self._stays_here = is_loopback(settings.host)
        self._may_be_open = self._stays_here or settings.trust_network
        per_s = settings.rate_limit_per_s
        self._calls = Buckets(per_s=per_s, burst=max(1.0, per_s * BURST_S), clock=clock)
        self._failures = failures or failure_buckets(clock)
        self._threads: CapacityLimiter | None = None  # of its own: films and streams hold nobody up here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._let_in(scope)
            if scope["path"] not in STOPS:
                self._count(caller, _peer(scope))
        except (Refused, DatabaseAway) as refused:
            log.warning(
                "call refused code=%s method=%s path=%r peer=%s",
                refused.code, scope["method"], scope["path"][:200], _peer(scope),
            )  # fmt: skip
            answer = _to_login(scope) if _is_a_browser_without_token(scope, refused) else _answer(refused)
            await answer(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    async def _let_in(self, scope: Scope) -> Caller:
        """Who calls, or who is let in without having been looked up."""
        path = scope["path"]
        if path == TELLS_MORE:
            try:
                return await self._caller_in_time(scope)
            except (Refused, DatabaseAway):
                return STRANGER
        if path in OPEN_PATHS:
            return ANYBODY
        if path in STOPS:
            return await self._caller_in_time(scope)
        try:
            return await self._caller(scope)
        except SQLAlchemyError as failed:
            log.error("caller not looked up path=%r reason=%r", path[:200], failed)
            raise DatabaseAway from failed

    async def _caller_in_time(self, scope: Scope) -> Caller:
        """Who calls, where no answer may depend on the database: without it, what it said last holds."""
        try:
            with fail_after(PATIENCE_S):
                return await self._caller(scope)
        except (SQLAlchemyError, TimeoutError) as failed:
            log.error("caller not looked up path=%r reason=%r", scope["path"], failed)
            caller = self._last_known(scope)
            if caller is None:
                raise DatabaseAway from failed
            return caller

    def _last_known(self, scope: Scope) -> Caller | None:
        callers: Callers = scope["app"].state.services.callers
        if self._may_be_open and not callers.asked_last():
            _require_no_page_from_elsewhere(scope)
            return ANYBODY
        token, token_id = bearer_token(scope)[0], self._token_of_session(scope)
        if token is not None:
            return callers.last_known(token)
        return None if token_id is None else callers.last_known_by_id(token_id)

    async def _caller(self, scope: Scope) -> Caller:
        callers: Callers = scope["app"].state.services.callers
        if self._may_be_open and not await self._asks(callers):
            _require_no_page_from_elsewhere(scope)
            return ANYBODY
        token, found = bearer_token(scope)
        if token is None:
            session = await self._of_session(scope)
            if session is not None:
                return session
            if wants_page(scope) or scope["path"] in OPEN_PATHS:
                raise Unauthorized(found=found)  # no guess: nobody is made to wait who opens a page
        caller = None if token is None else callers.remembered(token)
        return caller or await self._checked(callers, token, peer=_peer(scope), found=found)

    async def _of_session(self, scope: Scope) -> Caller | None:
        token_id = self._token_of_session(scope)
        callers: Callers = scope["app"].state.services.callers
        return None if token_id is None else await self._apart(callers.of_token, token_id)

    def _token_of_session(self, scope: Scope) -> str | None:
        """Whose session the cookie names. Calls of the API that do something need a token."""
        if scope["method"] not in READING and scope["path"].startswith(API):
            return None
        name = session_name(scope["headers"], self._port)
        if name == NOBODY:
            return None
        sessions: Sessions = scope["app"].state.services.sessions
        return sessions.token_of(name)

    async def _checked(self, callers: Callers, token: str | None, *, peer: str, found: str) -> Caller:
        """Who it is by the database; whoever guesses has to wait, and no hash is computed meanwhile."""
        if token is None or not callers.has_fitted(token):
            after_s = self._failures.wait_s(peer)
            if after_s:
                raise RateLimited(after_s=after_s, what="calls with a wrong token, or none")
        caller = None if token is None else await self._apart(callers.check, token)
        if caller is None:
            self._failures.take(peer)
            raise Unauthorized(found=found)
        return caller

    async def _asks(self, callers: Callers) -> bool:
        asking = callers.asks_for_token()
        return await self._apart(callers.check_whether_to_ask) if asking is None else asking

    async def _apart(self, ask: Callable[..., Answer], *arguments: object) -> Answer:
        """Ask the database on a thread that no call is done on."""
        if self._threads is None:
            self._threads = CapacityLimiter(THREADS)
        return await to_thread.run_sync(
            partial(ask, *arguments), limiter=self._threads, abandon_on_cancel=True
        )

    def _count(self, caller: Caller, peer: str) -> None:
        if caller.token_id is None and self._stays_here:
            return
        after_s = self._calls.take(caller.token_id or peer)
        if after_s:
            raise RateLimited(after_s=after_s, what="calls")


def failure_buckets(clock: Callable[[], float] = monotonic) -> Buckets:
    """How often each peer may show what is no token."""
    return Buckets(per_s=FAILURES_PER_S, burst=FAILURES_BURST, clock=clock)


def wants_page(scope: Scope) -> bool:
    """Whether somebody's browser asks for a page, rather than a program for an answer."""
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return b"text/html" in accepted and not scope["path"].startswith(API)


def _is_a_browser_without_token(scope: Scope, refused: Exception) -> bool:
    return isinstance(refused, Unauthorized) and wants_page(scope)


def _to_login(scope: Scope) -> Response:
    """The way to the login page, and back from there to a page that was only to be looked at."""
    if scope["method"] not in READING or scope["path"] == "/":
        return RedirectResponse("/login", status_code=303)
    query = scope["query_string"].decode("latin-1")
    back = scope["path"] + (f"?{query}" if query else "")
    return RedirectResponse(f"/login?next={quote(back, safe='/')}", status_code=303)


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


def _answer(refused: Refused | DatabaseAway) -> Response:
    answer = problem_of(refused)
    if isinstance(refused, Unauthorized):
        answer.headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(refused, RateLimited):
        answer.headers["Retry-After"] = str(refused.after_s)
    return answer


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "unknown"
