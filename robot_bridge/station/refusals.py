"""Statuses that depend on more than a code: a wrong method, an error class that the table does not know.

Bodies and the table of statuses are in `problems`; the OpenAPI document is told here that calls are refused.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from robot_bridge.errors import BadRequest, RobotBridgeError, StationRefused, UnknownCall
from robot_bridge.protocol import PROBLEM_TYPE, Problem
from robot_bridge.station import problems

OF_A_KIND: Final = {True: HTTPStatus.SERVICE_UNAVAILABLE, False: HTTPStatus.CONFLICT}  # by `retryable`


def install(app: FastAPI) -> None:
    """Every error of ours, and every request that cannot be read, leaves as a problem."""
    problems.install(app)

    @app.exception_handler(RobotBridgeError)
    def refused(_: Request, error: RobotBridgeError) -> Response:
        return answer_to(error)

    @app.exception_handler(HTTPException)
    def unrouted(request: Request, error: HTTPException) -> Response:
        call = f"{request.method} {request.url.path}"
        if error.status_code not in problems.UNROUTED:
            return answer_to(BadRequest(thing=call, reason=str(error.detail)))
        answer = _with_status(UnknownCall(call=call), HTTPStatus(error.status_code))
        answer.headers.update(error.headers or {})
        return answer

    _describe_refusals(app)


def answer_to(error: RobotBridgeError) -> Response:
    """The answer to an error. A class whose code has no status of its own gets that of its kind."""
    if error.code in problems.STATUS:
        return problems.answer_problem(error)
    codes = [str(getattr(kind, "code", "")) for kind in type(error).__mro__]
    known = [HTTPStatus(problems.STATUS[code]) for code in codes if code in problems.STATUS]
    if not known and isinstance(error, StationRefused):
        known = [OF_A_KIND[error.retryable]]
    return _with_status(error, *known[:1])


def _with_status(error: RobotBridgeError, status: HTTPStatus = HTTPStatus.INTERNAL_SERVER_ERROR) -> Response:
    body = problems.problem_of(error).model_copy(update={"status": status.value, "title": status.phrase})
    return Response(body.model_dump_json(), status_code=status.value, media_type=PROBLEM_TYPE)


def _describe_refusals(app: FastAPI) -> None:
    """Say in the OpenAPI document that every call may be refused, with a problem."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        schema = plain()
        refusal = {
            "description": "Refused, or unreadable: a problem (RFC 9457)",
            "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        for calls in schema["paths"].values():
            for call in calls.values():
                call["responses"].pop("422", None)
                call["responses"].update({"4XX": refusal, "5XX": refusal})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
