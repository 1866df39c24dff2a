"""What a call can answer besides success, told in the OpenAPI document from this one place.

What follows from a call's kind is found out: who has to show a token can be refused, what is sent can be
wrong or too large. What only its own work can lead to is in `OWN`. 500 is not declared: it is a fault of
ours. A status that is answered and not declared fails the tests of the API.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from daemon.api.body_examples import show_body
from daemon.api.errors import Forbidden, RateLimited, StationsNotStopped, Unauthorized
from daemon.api.problems import PROBLEM_TYPE, Ours, problem_of
from daemon.errors import DatabaseAway, PageNotFound, RequestInvalid, RequestTooLarge
from daemon.scheduling.errors import PreconditionFailed, PreconditionRequired, ScheduleNameTaken
from robot_bridge.body_limit import MAX_BODY_BYTES
from storage.errors import DiskFull, Retired

Document = dict[str, Any]

AGAIN = 200  # instead of 201 or 202: what was asked for is there already
OWN: Mapping[str, tuple[int, ...]] = {
    "GET /readyz": (503,),
    "POST /v1/iterations": (AGAIN, 409),
    "GET /v1/iterations": (304,),
    "GET /v1/iterations/{number}": (304, 404),
    "GET /v1/iterations/{number}/curves": (304, 404),
    "GET /v1/iterations/{number}/film-strips/{task}/{origin}.jpg": (304, 404),
    "GET /v1/iterations/{number}/manifest": (304, 404),
    "GET /v1/iterations/{number}/diff/{other}": (404,),
    "POST /v1/iterations/{number}/pause": (404, 409),
    "POST /v1/iterations/{number}/resume": (404, 409),
    "POST /v1/iterations/{number}/cancel": (404, 409),
    "POST /v1/iterations/{number}/retry": (404, 409),
    "POST /v1/iterations/{number}/skip": (404, 409),
    "GET /v1/iterations/{number}/phases/{phase}/{attempt}/log": (404,),
    "GET /v1/success-rates": (304,),
    "GET /v1/success-rates/difference/{one}/{other}": (304, 404),
    "GET /v1/episodes": (304, 404),
    "GET /v1/episodes/{episode_id}": (304, 404),
    "GET /v1/episodes/{episode_id}/video.mp4": (304, 404, 410),
    "GET /v1/episodes/{episode_id}/labels": (404,),
    "POST /v1/episodes/{episode_id}/labels": (AGAIN, 404, 409),
    "GET /v1/episodes/{episode_id}/notes": (404,),
    "POST /v1/episodes/{episode_id}/notes": (AGAIN, 404, 409),
    "GET /v1/checkpoints": (304,),
    "GET /v1/checkpoints/{checkpoint_id}": (304, 404),
    "GET /v1/checkpoints/{checkpoint_id}/trust": (304, 404),
    "GET /v1/policies/{checkpoint_id}": (404,),
    "POST /v1/policies/{checkpoint_id}/promote": (404, 409, 410),
    "POST /v1/policies/{checkpoint_id}/rollback": (404, 409, 410),
    "GET /v1/judges/{checkpoint_id}": (404,),
    "GET /v1/tasks/{task_id}": (404,),
    "GET /v1/stations/{station_id}": (404,),
    "POST /v1/schedules": (AGAIN, 409),
    "GET /v1/schedules/{schedule_id}": (404,),
    "PATCH /v1/schedules/{schedule_id}": (404, 409, 412, 428),
    "DELETE /v1/schedules/{schedule_id}": (404, 412),
    "POST /v1/schedules/{schedule_id}/run-now": (AGAIN, 404, 409),
    "PUT /v1/stations/{station_id}/hours": (412,),
    "DELETE /v1/stations/{station_id}/hours": (412,),
    "GET /v1/cameras/{place}/pictures/{name}.jpg": (404,),
    "POST /v1/estop": (424,),
    "POST /v1/worlds/what-if": (AGAIN, 404, 409, 410, 507),
    "GET /v1/worlds/what-ifs/{what_if_id}": (404,),
    "GET /v1/worlds/what-ifs/{what_if_id}/start.png": (404,),
    "GET /v1/worlds/what-ifs/{what_if_id}/rollouts/{place}/strip.jpg": (404,),
    "GET /v1/worlds/what-ifs/{what_if_id}/rollouts/{place}/film.mp4": (404,),
    "POST /v1/start-images": (AGAIN, 409, 507),
    "GET /v1/start-images/{image_id}": (404,),
    "DELETE /v1/start-images/{image_id}": (404,),
    "GET /v1/start-images/{image_id}/image.png": (404,),
    "POST /v1/tokens": (409,),
    "DELETE /v1/tokens/{name}": (404, 409),
}


class Problem(BaseModel):
    """What every refusal is (RFC 9457). `code` is stable, `detail` is for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    retryable: bool | None = Field(default=None, description="whether the same call may succeed later")
    faults: dict[str, str] | None = Field(default=None, description="what is wrong, by field")
    checks: dict[str, str] | None = Field(default=None, description="of `not_ready`: what was found")


class Documented(FastAPI):
    """An application whose OpenAPI document tells refusals too."""

    def openapi(self) -> Document:
        """The document, made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    call = f"{method.upper()} {path}"
                    declare(operation, call)
                    show_body(operation, call)
            components = document["components"]
            components["responses"] = {f"Problem{status}": answer for status, answer in problems()}
            schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            components["schemas"] = {
                **{name: each for name, each in components["schemas"].items() if "Validation" not in name},
                "Problem": schema,
            }
        return super().openapi()


def declare(operation: Document, call: str) -> None:
    """Write what a call can answer into its part of the document."""
    answers, own = operation["responses"], OWN.get(call, ())
    if AGAIN in own:
        (made,) = (answer for status, answer in answers.items() if status.startswith("2"))
        answers[str(AGAIN)] = {**made, "description": "it was there already"}
    if 304 in own:
        answers["304"] = {"description": "as before"}
    refusals = {*_of_its_kind(operation, call), *(status for status in own if status >= 400)}
    for status in sorted(refusals):
        answers[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    operation["responses"] = dict(sorted(answers.items()))


def _of_its_kind(operation: Document, call: str) -> Iterator[int]:
    yield 429
    if "security" in operation:
        yield from (401, 403, 503)
    if "parameters" in operation or "requestBody" in operation:
        yield 422
    if not call.startswith("GET "):
        yield 413


def problems() -> Iterator[tuple[int, Document]]:
    """Every status of a refusal with its description and a real example."""
    for error in examples():
        answer = problem_of(error)
        content = {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "example": json.loads(bytes(answer.body)),
        }
        description = HTTPStatus(answer.status_code).phrase
        yield answer.status_code, {"description": description, "content": {PROBLEM_TYPE: content}}


def examples() -> list[Ours]:
    """One refusal of each status that a call can answer."""
    return [
        Unauthorized(found="none"),
        Forbidden(needed="operate", name="ann", scopes=["read"]),
        PageNotFound(what="iteration", key=7),
        ScheduleNameTaken(name="nightly"),
        Retired(what="episode 51aa0c9e", at=datetime(2026, 1, 1, 12, tzinfo=UTC)),
        PreconditionFailed(what="schedule nightly", sent='"3"', current='"4"'),
        RequestTooLarge(limit_bytes=MAX_BODY_BYTES),
        RequestInvalid(faults={"query.limit": "Input should be less than or equal to 500"}),
        StationsNotStopped(failed={"http://cell:8401": "it did not answer"}, stopped=[]),
        PreconditionRequired(what="schedule nightly"),
        RateLimited(after_s=2, what="calls"),
        DatabaseAway(),
        DiskFull(needed=4_000_000, free=1_000_000, path=Path("data/blobs")),
    ]
