"""The two calls of `robot_bridge.callback`, and health, over HTTP. What is decided is in `sessions`."""

from __future__ import annotations

import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header
from pydantic import BaseModel

from daemon.policy_server.sessions import PolicySessions
from robot_bridge.callback import PolicyActAnswer, PolicyActRequest, PolicyReadyAnswer, PolicyResetRequest
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import Unauthorized
from robot_bridge.protocol import PROBLEM_TYPE, Problem
from robot_bridge.station import problems
from robot_bridge.station.body_limit import BodyLimit

MAX_BODY_BYTES = 1024 * 1024  # a picture is 30 kB
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {PROBLEM_TYPE: {}}, "description": "refused; `code` says why"}
    for status in ("4XX", "5XX")
}


class PolicyHealth(BaseModel):
    """Who decides now, and for how many."""

    policy: PolicyRef
    sessions: int


def create_policy_app(sessions: PolicySessions, *, token: str | None = None) -> FastAPI:
    """The server of one policy. With a `token`, callers must send it as bearer token."""

    def admitted(authorization: Annotated[str | None, Header()] = None) -> None:
        if token is None:
            return
        sent = (authorization or "").removeprefix("Bearer ").encode()
        if not hmac.compare_digest(sent, token.encode()):
            found = "none" if authorization is None else "an unknown one"
            raise Unauthorized(call="/v1/policy", found=found)

    router = APIRouter(prefix="/v1/policy", dependencies=[Depends(admitted)], responses=REFUSALS)

    @router.post("/reset")
    def reset(request: PolicyResetRequest) -> PolicyReadyAnswer:
        return sessions.reset(request)

    @router.post("/act")
    def act(request: PolicyActRequest) -> PolicyActAnswer:
        return sessions.act(request)

    docs: dict[str, Any] = {"docs_url": None, "redoc_url": None}
    app = FastAPI(title="policy server", version="1", **docs)
    app.include_router(router)

    @app.get("/health")
    def health() -> PolicyHealth:
        return PolicyHealth(policy=sessions.ref, sessions=sessions.count)

    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    problems.install(app)
    return app
