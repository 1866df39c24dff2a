"""AutoEval's three calls over HTTP, and their OpenAPI. What is answered is decided in `gateway_session`.

    POST /j/{capability}/act      a picture, a sentence, the arm's state -> seven numbers
    POST /j/{capability}/reset    a new attempt begins
    GET  /j/{capability}/health   AutoEval never asks; whoever set up the tunnel does

A path that is not open is answered the same whether it was never open or is closed, and its body is thrown
away unread. The connection test is answered without asking the policy, and never recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import numpy as np
from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from robot_bridge.autoeval import gateway_errors
from robot_bridge.autoeval.gateway_attempt import OPEN_GRIPPER, Pace, Received
from robot_bridge.autoeval.gateway_errors import BodyTooSlow, UnknownCapability
from robot_bridge.autoeval.gateway_openapi import ACT, HEALTH, RESET
from robot_bridge.autoeval.gateway_session import JobSession
from robot_bridge.autoeval.wire import MAX_BODY_BYTES, is_test_call, read_act, write_action
from robot_bridge.conventions import ACTION_DIMS
from robot_bridge.errors import BadRequest, RobotBridgeError, TooLarge

TEST_ACTION: Final = np.array([0.0] * (ACTION_DIMS - 1) + [OPEN_GRIPPER], dtype=np.float32)

Find = Callable[[str], JobSession | None]


def create_gateway_app(find: Find, pace: Pace) -> FastAPI:
    """The app around `find`, which knows the open job of a capability, or that there is none."""
    app = FastAPI(
        title="autoeval-gateway", version="1", docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.include_router(_routes(find, pace))
    gateway_errors.install(app)
    return app


def _routes(find: Find, pace: Pace) -> APIRouter:
    router = APIRouter(prefix="/j/{capability}")

    @router.post("/act", response_class=Response, **ACT)
    async def act(request: Request) -> Response:
        session, body = await _opened(request, find, pace.body_s)
        received = Received(t=pace.clock(), wall=pace.now().timestamp())
        return await run_in_threadpool(_act, session, body, received)

    @router.post("/reset", response_class=Response, **RESET)
    async def reset(request: Request) -> Response:
        session, _ = await _opened(request, find, pace.body_s)
        await run_in_threadpool(session.reset)
        return JSONResponse({"status": "reset"})

    @router.get("/health", response_class=Response, **HEALTH)
    async def health(request: Request) -> Response:
        await _opened(request, find, pace.body_s)
        return JSONResponse({"status": "healthy"})

    return router


def _act(session: JobSession, body: bytes, received: Received) -> Response:
    request = read_act(body)
    if is_test_call(request):
        content = write_action(TEST_ACTION, encoded=request.encoded)
    else:
        content = session.act(request, received)
    return Response(content, media_type="application/json")


async def _opened(request: Request, find: Find, body_s: float) -> tuple[JobSession, bytes]:
    """The job under the request's path, and its whole body.

    Raises:
        UnknownCapability: no job is open there.
        TooLarge, BodyTooSlow, BadRequest: the body did not come whole.
    """
    session = find(request.path_params["capability"])
    body = await _read(request, within_s=body_s, keep=session is not None)
    if session is None:
        raise UnknownCapability(thing="a job")
    return session, body


async def _read(request: Request, *, within_s: float, keep: bool) -> bytes:
    body, length = bytearray(), 0
    try:
        async with asyncio.timeout(within_s):
            async for part in request.stream():
                length += len(part)
                if length > MAX_BODY_BYTES:
                    raise _too_large(keep, length)
                if keep:
                    body += part
    except TimeoutError:
        raise BodyTooSlow(limit_s=within_s) from None
    except ClientDisconnect:
        raise BadRequest(thing="the body", reason="the connection was closed within it") from None
    return bytes(body)


def _too_large(known: bool, length: int) -> RobotBridgeError:
    """To a stranger even this looks as if nothing were here."""
    return TooLarge(found=length, expected=MAX_BODY_BYTES) if known else UnknownCapability(thing="a job")
