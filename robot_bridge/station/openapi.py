"""The station's OpenAPI document, with what FastAPI cannot know: any call may be refused, with a problem."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from robot_bridge.protocol import PROBLEM_TYPE, Problem


def tell_of_refusals(app: FastAPI) -> None:
    """Replace FastAPI's own error bodies in the document, which nobody here sends, by ours."""
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
