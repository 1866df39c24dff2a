"""The only place where an error's code becomes an HTTP status. Bodies are RFC 9457 problem documents.

A code that is not listed is a fault of ours or of the machine and answers 500; a test holds the list
to the errors that exist.
"""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from daemon.errors import DaemonError, DatabaseAway, NotReady, RequestInvalid, RequestTooLarge, SpecInvalid
from daemon.spec import dotted, spec_refusal
from robot_bridge.errors import RobotBridgeError
from storage.errors import StorageError

log = logging.getLogger(__name__)

Ours = DaemonError | StorageError | RobotBridgeError
Handler = Callable[[Request, Exception], Response]

PROBLEM_TYPE = "application/problem+json"

STATUS: dict[str, int] = {
    # what the caller sent
    "spec_invalid": 422,
    "spec_unknown_field": 422,
    "request_invalid": 422,
    "cursor_invalid": 422,
    "unknown_phase": 422,
    "unknown_task": 422,
    "checkpoint_kind_invalid": 422,
    "episode_origin_invalid": 422,
    "label_source_invalid": 422,
    "request_too_large": 413,
    "picture_unusable": 422,
    "access_token_invalid": 422,
    # who called
    "unauthorized": 401,
    "forbidden": 403,
    "web_page_refused": 403,
    "form_refused": 403,
    "maker_unknown": 403,
    "rate_limited": 429,
    # what there is and is not
    "not_found": 404,
    "page_not_found": 404,
    "idempotency_mismatch": 409,
    "request_key_reused": 409,
    "illegal_move": 409,
    "lease_conflict": 409,
    "lease_lost": 409,
    "episode_conflict": 409,
    "autoeval_job_conflict": 409,
    "schedule_name_taken": 409,
    "schedule_busy": 409,
    "access_token_exists": 409,
    "last_token": 409,
    "policy_unfit": 409,
    "not_champion": 409,
    "no_champion_before": 409,
    "lineage_busy": 409,
    "precondition_failed": 412,
    "precondition_required": 428,
    "retired": 410,
    "stations_not_stopped": 424,
    # what the machine can do now
    "not_ready": 503,
    "streams_full": 503,
    "what_ifs_full": 503,
    "database_outdated": 503,
    "database_newer": 503,
    "database_away": 503,
    "disk_full": 507,
}


def problem(code: str, detail: str, *, status: int, **members: Any) -> JSONResponse:
    """Build a problem answer; `members` are extra fields of the document."""
    document = {
        "type": f"urn:gymnastd:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **members,
    }
    return JSONResponse(document, status_code=status, media_type=PROBLEM_TYPE)


def problem_of(error: Ours) -> JSONResponse:
    """Give one of our errors the answer that its code has here."""
    members: dict[str, Any] = {"retryable": error.retryable}
    if isinstance(error, SpecInvalid | RequestInvalid):
        members["faults"] = error.faults
    if isinstance(error, NotReady) and error.checks is not None:
        members["checks"] = error.checks
    return problem(error.code, str(error), status=STATUS.get(error.code, 500), **members)


def too_large(_: int, allowed: int) -> JSONResponse:
    """The answer to a body of more bytes than are read."""
    return problem_of(RequestTooLarge(limit_bytes=allowed))


def install_problems(app: FastAPI) -> None:
    """Make the application answer every refusal as a problem document."""
    for root in (DaemonError, StorageError, RobotBridgeError):
        app.add_exception_handler(root, cast(Handler, _answer_ours))
    app.add_exception_handler(OperationalError, cast(Handler, _answer_away))
    app.add_exception_handler(RequestValidationError, cast(Handler, _answer_validation))
    app.add_exception_handler(HTTPException, cast(Handler, _answer_http))
    app.add_exception_handler(Exception, _answer_unexpected)


def _answer_ours(request: Request, error: Ours) -> JSONResponse:
    answer = problem_of(error)
    if answer.status_code >= 500:
        log.error("request failed path=%s code=%s reason=%s", request.url.path, error.code, error)
    return answer


def _answer_away(request: Request, error: OperationalError) -> JSONResponse:
    log.error("request failed path=%s code=%s reason=%s", request.url.path, DatabaseAway.code, error.orig)
    return problem_of(DatabaseAway())


def _answer_validation(request: Request, error: RequestValidationError) -> JSONResponse:
    """A body or a query parameter that FastAPI refused; a spec's faults get the spec's codes."""
    errors = error.errors()
    asks_for_an_iteration = request.method == "POST" and request.url.path == "/v1/iterations"
    if asks_for_an_iteration and all(fault["loc"][0] == "body" for fault in errors):
        inside = [{**fault, "loc": fault["loc"][1:]} for fault in errors]
        return problem_of(spec_refusal(inside))
    return problem_of(RequestInvalid(faults={dotted(fault["loc"]): fault["msg"] for fault in errors}))


def _answer_http(request: Request, error: HTTPException) -> JSONResponse:
    """What the framework refuses by itself: no such path, no such method."""
    if error.status_code == HTTPStatus.BAD_REQUEST:  # a body that is no text, or no form
        return problem_of(RequestInvalid(faults={"body": error.detail}))
    code = {404: "page_not_found", 405: "method_not_allowed"}.get(error.status_code, "request_invalid")
    answer = problem(code, f"{request.method} {request.url.path}: {error.detail}", status=error.status_code)
    answer.headers.update(error.headers or {})
    return answer


def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    """A bug: the log has the trace, the answer has no insides."""
    detail = f"{request.method} {request.url.path} failed with {type(error).__name__}; see the daemon's log"
    return problem("internal_error", detail, status=500)
