"""The only place where a station's error becomes an HTTP status and an RFC 9457 body.

A policy server answers with the same table and the same bodies.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from robot_bridge.errors import BadRequest, RobotBridgeError, StationRefused, TooLarge, UnknownCall
from robot_bridge.protocol import PROBLEM_TYPE, Problem

STATUS: Final[dict[str, int]] = {
    "bad_request": 422,
    "bad_action": 422,
    "limits_violation": 422,
    "idempotency_mismatch": 422,
    "endpoint_refused": 422,
    "needs_human": 409,
    "waiting_human": 409,
    "not_homed": 409,
    "unauthorized": 401,
    "forbidden": 403,
    "rate_limited": 429,
    "resting": 503,
    "driver_disconnected": 503,
    "lease_required": 403,
    "unknown_call": 404,
    "unknown_task": 404,
    "unknown_episode": 404,
    "unknown_lease": 404,
    "unknown_blob": 404,
    "lease_conflict": 409,
    "step_out_of_order": 409,
    "step_stale": 409,
    "episode_state": 409,
    "fence_stale": 412,
    "too_large": 413,
    "estopped": 423,
    "motion_stopped": 423,
    "version_mismatch": 426,
    "camera_stale": 503,
    "motor_fault": 503,
    "driver_error": 503,
    "renderer_unavailable": 503,
    "camera_frozen": 503,
    "no_picture": 503,
    "arm_not_ready": 503,
    "picture_unusable": 503,
    "unknown_session": 409,
    "instruction_changed": 409,
    "bad_observation": 422,
    "policy_failed": 503,
    "policy_unreachable": 503,
    "unknown_outcome": 504,
    "fence_not_kept": 507,
    "label_not_kept": 507,
    "spool_full": 507,
    "disk_full": 507,
    "spool_corrupt": 503,  # the station's disk needs somebody; it can still be asked for everything else
}
OF_A_KIND: Final = {True: HTTPStatus.SERVICE_UNAVAILABLE, False: HTTPStatus.CONFLICT}  # by `retryable`
UNROUTED: Final = {404, 405}  # what the framework says of a path or method that is not ours
METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
MAX_FAULTS: Final = 5  # how many wrong fields one answer names


def status_of(error: RobotBridgeError) -> HTTPStatus:
    """The status of an error's code; of one that is not in the table, that of its class's kind."""
    codes = [str(getattr(kind, "code", "")) for kind in type(error).__mro__]
    known = [HTTPStatus(STATUS[code]) for code in codes if code in STATUS]
    if known:
        return known[0]
    return (
        OF_A_KIND[error.retryable] if isinstance(error, StationRefused) else HTTPStatus.INTERNAL_SERVER_ERROR
    )


def problem_of(error: RobotBridgeError, status: HTTPStatus | None = None) -> Problem:
    """The body that tells a client what was refused, why, and what to do."""
    status = status_of(error) if status is None else status
    return Problem(
        type=f"urn:robot-station:{error.code}",
        title=status.phrase,
        status=status.value,
        detail=str(error),
        code=error.code,
        retryable=error.retryable,
        parts={name: _plain(part) for name, part in error.parts.items()},
    )


def answer_problem(error: RobotBridgeError, status: HTTPStatus | None = None) -> Response:
    """The HTTP answer to an error."""
    problem = problem_of(error, status)
    answer = Response(problem.model_dump_json(), status_code=problem.status, media_type=PROBLEM_TYPE)
    if "retry_after_s" in problem.parts:
        answer.headers["Retry-After"] = str(problem.parts["retry_after_s"])
    return answer


def too_large(found: int, allowed: int) -> Response:
    """The HTTP answer to a body of more bytes than are read."""
    return answer_problem(TooLarge(found=found, expected=allowed))


def install(app: FastAPI) -> None:
    """Let every error of ours, and every request that cannot be read, leave as a problem.

    A wrong method is a call that is not there too, but answers 405 and says which methods are.
    """

    @app.exception_handler(RobotBridgeError)
    def refused(_: Request, error: RobotBridgeError) -> Response:
        return answer_problem(error)

    @app.exception_handler(RequestValidationError)
    def unreadable(request: Request, error: RequestValidationError) -> Response:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        reason = "; ".join(faults[:MAX_FAULTS])
        return answer_problem(BadRequest(thing=_call_of(request), reason=reason))

    @app.exception_handler(HTTPException)
    def unrouted(request: Request, error: HTTPException) -> Response:
        call = _call_of(request)
        if error.status_code not in UNROUTED:
            return answer_problem(BadRequest(thing=call, reason=str(error.detail)))
        answer = answer_problem(UnknownCall(call=call), HTTPStatus(error.status_code))
        answer.headers.update(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            answer.headers["Allow"] = ", ".join(_methods_of(request))
        return answer


def _methods_of(request: Request) -> list[str]:
    """Every method that the path of a request has; the framework itself names those of one route only."""
    routes = request.app.router.routes
    return [
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


def _call_of(request: Request) -> str:
    return f"{request.method} {request.url.path}"


def _plain(part: object) -> str | int | float | bool | None:
    return part if isinstance(part, str | int | float | bool | None) else str(part)
