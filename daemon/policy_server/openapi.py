"""The policy server's OpenAPI where it is written out: bodies are read by hand, once, and for speed."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from robot_bridge.autoeval.gateway_openapi import ENCODED, JSON, PLAIN, REPLY
from robot_bridge.callback import PolicyActAnswer, PolicyActRequest, PolicyReadyAnswer, PolicyResetRequest
from robot_bridge.protocol import PROBLEM_TYPE, Problem

Schema = dict[str, Any]

REFUSALS: Final = {
    401: "a bearer token is needed here",
    409: "the session is not known: reset first; or the instruction changed without a reset",
    413: "a body of more than 1 MiB",
    422: "the body is not what this call takes",
    503: "no action was decided; of /act, the problem carries the action to hold with",
}
HOLD: Final[Schema] = {
    "description": "of /act with 503: no motion, the gripper as it was told last",
    "type": "array",
    "items": {"type": "number"},
    "minItems": 7,
    "maxItems": 7,
}


def schema_of(model: type[BaseModel], *, sent: bool = True) -> Schema:
    """A model's schema, whole in one place."""
    return _inlined(model.model_json_schema(mode="serialization" if sent else "validation"))


def _inlined(schema: Schema) -> Schema:
    definitions = schema.pop("$defs", {})

    def whole(part: Any) -> Any:
        if isinstance(part, dict) and "$ref" in part:
            return whole(definitions[part["$ref"].rpartition("/")[2]])
        if isinstance(part, dict):
            return {name: whole(value) for name, value in part.items()}
        return [whole(value) for value in part] if isinstance(part, list) else part

    inlined: Schema = whole(schema)
    return inlined


def _problems(*statuses: int) -> Schema:
    schema = schema_of(Problem)
    holding = {**schema, "properties": {**schema["properties"], "action": HOLD}}
    return {
        str(status): {
            "description": REFUSALS[status],
            "content": {PROBLEM_TYPE: {"schema": holding if status == 503 else schema}},
        }
        for status in statuses
    }


def _operation(summary: str, answer: Schema, *statuses: int, body: Schema | None = None) -> dict[str, Any]:
    responses = {
        "200": {"description": "done", "content": {JSON: {"schema": answer}}},
        **_problems(*statuses),
    }
    extra: Schema = {"responses": responses}
    if body is not None:
        extra["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    return {"summary": summary, "openapi_extra": extra}


BEGIN: Final = _operation(
    "Begin a session with the newest policy",
    schema_of(PolicyReadyAnswer),
    *(401, 413, 422),
    body=schema_of(PolicyResetRequest, sent=False),
)
DECIDE: Final = _operation(
    "Decide the chunk that begins at step t; the same step again is answered the same",
    schema_of(PolicyActAnswer),
    *(401, 409, 413, 422, 503),
    body=schema_of(PolicyActRequest, sent=False),
)
ACT: Final = _operation(
    "The next action, as AutoEval and OpenVLA ask for it",
    REPLY,
    *(401, 409, 413, 422, 503),
    body={"oneOf": [{**PLAIN, "required": ["image", "instruction"]}, ENCODED]},
)
RESET: Final = _operation(
    "End the episode of /act; a body is not looked at",
    {"type": "object", "required": ["status"], "properties": {"status": {"const": "reset"}}},
    *(401, 413),
)
