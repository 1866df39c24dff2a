"""The gateway's OpenAPI, written out: its bodies are read by hand, so no model can describe them."""

from __future__ import annotations

from typing import Any, Final

from robot_bridge.autoeval.gateway_errors import CALLS
from robot_bridge.autoeval.wire import (
    BOX_HIGH,
    BOX_LOW,
    IMAGE_DTYPE,
    IMAGE_SHAPE,
    INSTRUCTION_MAX,
    MAX_BODY_BYTES,
    PROPRIO_DIMS,
    PROPRIO_DTYPES,
)
from robot_bridge.protocol import PROBLEM_TYPE, Problem

JSON: Final = "application/json"
Schema = dict[str, Any]

REFUSALS: Final = {
    404: "no job is open under this path, whether there ever was one or not",
    405: f"another method; there are {CALLS}",
    408: "the body did not arrive in time",
    409: "there is no attempt: call /reset first; or it has had all its steps",
    413: f"a body of more than {MAX_BODY_BYTES} bytes",
    422: "the body is not AutoEval's (also where this schema cannot say so), not about this job, or was cut",
    429: "another request of this job is being answered",
    503: "the policy gives no action, or the step cannot be recorded: the job must stop",
}


def _array(dtypes: tuple[str, ...], shape: tuple[int, ...], text: str) -> Schema:
    return {
        "type": "object",
        "description": text,
        "required": ["__numpy__", "dtype", "shape"],
        "additionalProperties": False,
        "properties": {
            "__numpy__": {"type": "string", "contentEncoding": "base64"},
            "dtype": {"type": "string", "enum": list(dtypes)},
            "shape": {"enum": [list(shape)]},
        },
    }


def _problems(*statuses: int) -> Schema:
    schema = Problem.model_json_schema(mode="serialization")
    return {
        str(status): {"description": REFUSALS[status], "content": {PROBLEM_TYPE: {"schema": schema}}}
        for status in statuses
    }


def _answer(text: str, schema: Schema) -> Schema:
    return {"200": {"description": text, "content": {JSON: {"schema": schema}}}}


def _status(word: str) -> Schema:
    return {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string", "const": word}},
    }


PLAIN: Final[Schema] = {
    "type": "object",
    "required": ["image", "instruction", "proprio"],
    "additionalProperties": False,
    "properties": {
        "image": _array((IMAGE_DTYPE,), IMAGE_SHAPE, "RGB, 196,608 bytes as 262,144 characters"),
        "instruction": {"type": "string", "minLength": 1, "maxLength": INSTRUCTION_MAX},
        "proprio": _array(
            PROPRIO_DTYPES,
            (PROPRIO_DIMS,),
            f"x y z roll pitch yaw 0 gripper in autoeval_mg, xyz within {BOX_LOW}..{BOX_HIGH} m",
        ),
        "unnorm_key": {"description": "sent by OpenVLA's client, not looked at"},
    },
}
ENCODED: Final[Schema] = {
    "type": "object",
    "description": "the other form as a JSON string; the reply is a JSON string then",
    "required": ["encoded"],
    "additionalProperties": False,
    "properties": {"encoded": {"type": "string", "contentMediaType": JSON}},
}
REPLY: Final[Schema] = {
    "oneOf": [
        {"type": "array", "items": {"type": "number"}, "minItems": 7, "maxItems": 7},
        {"type": "string", "contentMediaType": JSON},
    ]
}
CAPABILITY: Final[Schema] = {
    "name": "capability",
    "in": "path",
    "required": True,
    "description": "the path of one job, known to AutoEval only",
    "schema": {"type": "string", "minLength": 1},
}


def _operation(summary: str, responses: Schema, **more: Any) -> dict[str, Any]:
    extra = {"parameters": [CAPABILITY], "responses": responses, **more}
    return {"summary": summary, "openapi_extra": extra}


ACT: Final = _operation(
    "Decide the next action",
    _answer("seven numbers", REPLY) | _problems(404, 405, 408, 409, 413, 422, 429, 503),
    requestBody={"required": True, "content": {JSON: {"schema": {"oneOf": [PLAIN, ENCODED]}}}},
)
RESET: Final = _operation(
    "Begin the next attempt; a body is not looked at",
    _answer("it has begun", _status("reset")) | _problems(404, 405, 408, 409, 413, 422, 429, 503),
)
HEALTH: Final = _operation(
    "Whether this job is open", _answer("it is", _status("healthy")) | _problems(404, 405, 408, 413, 422)
)
