"""What the policy gateway refuses, and the only place where a refusal becomes an HTTP answer to AutoEval.

    RobotBridgeError
    └── GatewayRefused
        ├── UnknownCapability      no job is open under that path: nobody learns whether there ever was one
        ├── UnknownGatewayCall     a path or a method that the gateway has not
        ├── WrongInstruction       not this job's sentence
        ├── ResetFirst             an /act before the /reset
        ├── AttemptFull            more steps, or more attempts, than the job can have
        ├── RequestInFlight        the job's last question is not answered yet
        ├── BodyTooSlow            the request's body did not come
        ├── PolicyChanged          the job is pinned to one policy, and another one answered
        ├── GatewayJobInvalid      (at home) a job that cannot be served
        ├── GatewayJobOpen         (at home) the id or the capability is in use
        └── GatewayBusy            (at home) another gateway has the folder

A capability is never part of a sentence, a problem or a log line: whoever has it can ask the policy. Problems
are RFC 9457 bodies with the codes of these classes and of `robot_bridge.errors`; what went wrong on our own
side (addresses, folders) is said in the log only.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import ClassVar, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from robot_bridge.errors import RobotBridgeError
from robot_bridge.protocol import PROBLEM_TYPE, Problem

log = logging.getLogger(__name__)


class GatewayRefused(RobotBridgeError):
    code = "gateway_refused"
    status: ClassVar[int] = 500


class UnknownCapability(GatewayRefused):
    code = "unknown_capability"
    status = 404
    sentence = "no job is open here. Paths of {thing} end with the job they were made for."


class UnknownGatewayCall(GatewayRefused):
    code = "unknown_gateway_call"
    status = 404
    sentence = "this gateway has no such call; it has {calls}."


class WrongInstruction(GatewayRefused):
    code = "wrong_instruction"
    status = 422
    sentence = "job {job_id}: the instruction must be {expected!r}, found {found}. Nothing was decided."


class ResetFirst(GatewayRefused):
    code = "reset_first"
    status = 409
    sentence = "job {job_id}: no attempt runs. Call /reset before the first /act of every attempt."


class AttemptFull(GatewayRefused):
    code = "attempt_full"
    status = 409
    sentence = "job {job_id}: {found} {thing} were recorded, at most {expected} may be. {todo}."


class RequestInFlight(GatewayRefused):
    code = "request_in_flight"
    status = 429
    retryable = True
    sentence = "job {job_id}: a request is being answered. Send one at a time."


class BodyTooSlow(GatewayRefused):
    code = "body_too_slow"
    status = 408
    retryable = True
    sentence = "the request's body did not arrive within {limit_s} s. Send it again, at once."


class PolicyChanged(GatewayRefused):
    code = "policy_changed"
    status = 503
    sentence = (
        "job {job_id} is pinned to policy {expected}, {found} answered. Submit another job for that one."
    )


class GatewayJobInvalid(GatewayRefused):
    code = "gateway_job_invalid"
    sentence = "gateway job {job_id!r}: {thing} must be {expected}. It was not opened."


class GatewayJobOpen(GatewayRefused):
    code = "gateway_job_open"
    sentence = (
        "gateway job {job_id}: its {thing} is in use by an open job. Close that one, or choose another."
    )


class GatewayBusy(GatewayRefused):
    code = "gateway_busy"
    sentence = "folder {path} belongs to a gateway that runs. Stop it, or give this one another folder."


STATUS: Final[dict[str, int]] = {  # errors of others that can reach AutoEval
    "bad_request": 422,
    "bad_observation": 422,
    "too_large": 413,
    "policy_unreachable": 503,
    "policy_failed": 503,
    "unknown_session": 503,
    "recording_failed": 503,
}
CALLS: Final = "POST /j/<capability>/act, POST /j/<capability>/reset and GET /j/<capability>/health"
AT_HOME: Final = {"policy_unreachable", "policy_failed", "unknown_session", "recording_failed"}
SEE_LOG: Final = "no action can be given. The gateway's log says why; AutoEval must stop this job."
RETRY_AFTER_S: Final = 1  # for a request that overtook another


def status_of(error: RobotBridgeError) -> int:
    """The HTTP status an error leaves with."""
    return error.status if isinstance(error, GatewayRefused) else STATUS.get(error.code, 500)


def answer_problem(error: RobotBridgeError, *, status: int | None = None) -> Response:
    """The HTTP answer to an error."""
    status = status_of(error) if status is None else status
    if error.code in AT_HOME:
        log.error("job stopped code=%s error=%s", error.code, error)
    problem = Problem(
        type=f"urn:autoeval-gateway:{error.code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=SEE_LOG if error.code in AT_HOME else str(error),
        code=error.code,
        retryable=error.retryable,
    )
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == HTTPStatus.TOO_MANY_REQUESTS else {}
    return Response(problem.model_dump_json(), status_code=status, media_type=PROBLEM_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    """Let every error of ours, and every path that is not ours, leave as a problem that repeats no path."""

    @app.exception_handler(RobotBridgeError)
    def refused(_: Request, error: RobotBridgeError) -> Response:
        return answer_problem(error)

    @app.exception_handler(HTTPException)
    def unrouted(_: Request, error: HTTPException) -> Response:
        answer = answer_problem(UnknownGatewayCall(calls=CALLS), status=error.status_code)
        answer.headers.update(error.headers or {})
        return answer
