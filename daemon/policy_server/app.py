"""The policy server over HTTP. What is decided is in `sessions`, the errors' statuses are the station's.

POST /v1/policy/reset, /v1/policy/act    stations and gateways (`robot_bridge.callback`)
POST /act, /reset                        AutoEval and OpenVLA
GET  /health                             whoever wants to know which policy decides, and how fast
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.policy_server.acting import Acting
from daemon.policy_server.latency import Latencies, Percentiles, Timed, say_thought
from daemon.policy_server.openapi import ACT, BEGIN, DECIDE, RESET
from daemon.policy_server.problems import InstructionChanged, held
from daemon.policy_server.sessions import PolicySessions, picture_of
from robot_bridge.autoeval.wire import read_act, write_action
from robot_bridge.body_limit import BodyLimit
from robot_bridge.callback import PolicyActRequest, PolicyResetRequest
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import BadRequest, PolicyError, Unauthorized
from robot_bridge.protocol import AUTHORIZATION_HEADER, Answer, Command
from robot_bridge.station.problems import answer_problem, install, too_large

MAX_BODY_BYTES: Final = 1024 * 1024  # a raw picture of AutoEval's is a quarter of it
QUICK_MS: Final = 25.0  # an eighth of a control period
HEALTH: Final = "/health"
JSON: Final = "application/json"

CommandT = TypeVar("CommandT", bound=Command)
ResultT = TypeVar("ResultT")


class PolicyHealth(BaseModel):
    """Which policy the next session gets, and what calls cost: thinking and everything around it."""

    status: str = "healthy"
    policy: PolicyRef
    temperature: float
    sessions: int
    calls: int
    infer_ms: Percentiles
    overhead_ms: Percentiles


def create_policy_app(sessions: PolicySessions, *, token: str | None = None, seed: int = 0) -> FastAPI:
    """The server of one policy. With a `token`, callers must send it as bearer token; `seed` is of `/act`."""
    latencies = Latencies()
    app = FastAPI(title="policy server", version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    documented = [] if token is None else [Depends(HTTPBearer(auto_error=False))]  # `Bearer` is what refuses
    app.include_router(_callback_routes(sessions), dependencies=documented)
    app.include_router(_act_routes(sessions, Acting(sessions, seed=seed)), dependencies=documented)

    @app.get(HEALTH)
    def health() -> PolicyHealth:
        return PolicyHealth(
            policy=sessions.ref,
            temperature=sessions.temperature,
            sessions=sessions.count,
            calls=latencies.calls,
            infer_ms=latencies.thought(),
            overhead_ms=latencies.around(),
        )

    app.add_middleware(BodyLimit, refuse=too_large, max_bytes=MAX_BODY_BYTES)
    if token is not None:
        app.add_middleware(Bearer, token=token)
    app.add_middleware(Timed, latencies=latencies)
    install(app)
    return app


def _callback_routes(sessions: PolicySessions) -> APIRouter:
    router = APIRouter(prefix="/v1/policy")

    @router.post("/reset", response_class=Response, **BEGIN)
    async def reset(request: Request) -> Response:
        command = _command(PolicyResetRequest, await request.body())
        return _answer(sessions.reset(command))

    @router.post("/act", response_class=Response, **DECIDE)
    async def act(request: Request) -> Response:
        command = _command(PolicyActRequest, await request.body())
        decision = await _out_of_the_way(
            sessions,
            lambda: sessions.decide(command.session, command.t, lambda: picture_of(command.observation)),
        )
        say_thought(request, decision.thought_ms)
        return _answer(decision.answer)

    return router


def _act_routes(sessions: PolicySessions, acting: Acting) -> APIRouter:
    router = APIRouter()

    @router.post("/act", response_class=Response, **ACT)
    async def act(request: Request) -> Response:
        body = await request.body()
        return await _out_of_the_way(sessions, lambda: _act(acting, request, body=body))

    @router.post("/reset", response_class=Response, **RESET)
    async def reset() -> Response:
        await run_in_threadpool(acting.reset)
        return JSONResponse({"status": "reset"})

    return router


async def _out_of_the_way(sessions: PolicySessions, work: Callable[[], ResultT]) -> ResultT:
    """Do what needs the policy: in a thread, unless the policy is so quick that waking one costs more.

    Only one decision runs at a time in either case. While a quick one runs nothing else is answered, which is
    shorter than a busy machine takes to wake a thread and come back.
    """
    if sessions.last_thought_ms <= QUICK_MS:
        return work()
    return await run_in_threadpool(work)


def _act(acting: Acting, request: Request, *, body: bytes) -> Response:
    asked = read_act(body, proprio_required=False)
    try:
        action, thought_ms = acting.act(asked)
    except InstructionChanged:
        raise
    except PolicyError as error:
        return held(error, acting.hold())
    say_thought(request, thought_ms)
    return Response(write_action(action, encoded=asked.encoded), media_type=JSON)


def _command(kind: type[CommandT], body: bytes) -> CommandT:
    """Raises:
    BadRequest: the body is not this command.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as cause:
        fault = cause.errors(include_input=False, include_url=False)[0]
        reason = f"{'.'.join(map(str, fault['loc'])) or 'the body'}: {fault['msg']}"
        raise BadRequest(thing=kind.__name__, reason=reason) from cause


def _answer(answer: Answer) -> Response:
    return Response(answer.model_dump_json(), media_type=JSON)


class Bearer:
    """ASGI middleware: whoever does not send the token is refused before anything of the body is read."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = hashlib.sha256(token.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == HEALTH or self._admits(scope):
            await self._app(scope, receive, send)
            return
        sent = self._sent(scope)
        call = f"{scope['method']} {scope['path']}"
        refusal = answer_problem(Unauthorized(call=call, found="none" if sent is None else "another one"))
        refusal.headers["WWW-Authenticate"] = "Bearer"
        await refusal(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        scheme, _, secret = (self._sent(scope) or b"").partition(b" ")
        fits = hmac.compare_digest(hashlib.sha256(secret.strip()).digest(), self._token)
        return fits and scheme.lower() == b"bearer"

    @staticmethod
    def _sent(scope: Scope) -> bytes | None:
        headers: dict[bytes, Any] = dict(scope["headers"])
        return headers.get(AUTHORIZATION_HEADER.lower().encode())
