"""`docs/api.md`, made from the REST API's own OpenAPI: `python -m daemon.api_reference`."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from daemon.api.problems import STATUS
from daemon.app import create_app
from daemon.settings import Settings

Document = Mapping[str, Any]

BEFORE = """# The REST API

Made by `python -m daemon.api_reference`; a test holds this page to the program. A running daemon serves the
same as OpenAPI at `/openapi.json`.

- A body is JSON; a field that does not exist is refused. Answers of lists have `items` and, where they have
  pages, `next_cursor`: send it as `cursor` for the next one.
- Where an `Idempotency-Key` can be sent, the same key finds what the first call made; with another body it
  is refused.
- With a token in force every call needs `Authorization: Bearer TOKEN`, but those of the section health.
  Which scope a route needs is in `docs/threat-model.md`.
- Python: `daemon.client.DaemonClient(url, token=…)`.

## What is refused

Every refusal is a problem document (RFC 9457, `application/problem+json`) with `code`, `detail`, and
`retryable` where the program knows. A code that is not here is 500: a fault of the program or of the
machine.

| status | codes |
|---|---|
{problems}
"""


def reference() -> str:
    """The whole page."""
    document = create_app(Settings()).openapi()
    sections: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            section = operation.get("tags", ["health"])[0]
            sections.setdefault(section, []).append(route(method.upper(), path, operation))
    parts = [BEFORE.format(problems=problems())]
    for section, routes in sections.items():
        parts += [f"## {section.capitalize()}\n", *routes]
    parts += ["## What is sent and answered\n", *schemas(document["components"]["schemas"])]
    return "\n".join(parts)


def problems() -> str:
    """One line per status, with every code that answers it."""
    codes: dict[int, list[str]] = {}
    for code, status in sorted(STATUS.items()):
        codes.setdefault(status, []).append(f"`{code}`")
    return "\n".join(f"| {status} | {', '.join(named)} |" for status, named in sorted(codes.items()))


def route(method: str, path: str, operation: Document) -> str:
    """A route: what it does, what is sent, what is answered."""
    lines = [f"### `{method} {path}`", "", *paragraph(operation)]
    parameters = operation.get("parameters", [])
    if parameters:
        lines += ["| parameter | where | type | meaning |", "|---|---|---|---|"]
        lines += [parameter_row(each) for each in parameters] + [""]
    if "requestBody" in operation:
        (content,) = operation["requestBody"]["content"].values()
        example = json.dumps(content["example"], ensure_ascii=False)
        lines += [f"Body: {kind_of(content['schema'])}, such as", "", "```json", example, "```", ""]
    refused = ", ".join(status for status in operation["responses"] if status >= "4")
    return "\n".join([*lines, f"Answers {'; '.join(answers(operation))}. Refuses with {refused}.", ""])


def answers(operation: Document) -> Iterator[str]:
    """The answers that are no refusals."""
    for status, answer in operation["responses"].items():
        if status < "4":
            kinds = [
                kind_of(content["schema"]) if content.get("schema") else f"`{media}`"
                for media, content in answer.get("content", {}).items()
            ]
            yield " ".join([status, " or ".join(kinds)]).strip()


def parameter_row(parameter: Document) -> str:
    schema = parameter["schema"]
    needed = ", needed" if parameter.get("required") and parameter["in"] != "path" else ""
    meaning = parameter.get("description", schema.get("description", ""))
    return f"| `{parameter['name']}` | {parameter['in']}{needed} | {kind_of(schema)} | {cell(meaning)} |"


def schemas(known: Document) -> Iterator[str]:
    """Every document, field by field."""
    for name, schema in sorted(known.items()):
        lines = [f"### {name}", "", *paragraph(schema)]
        fields = schema.get("properties", {})
        if fields:
            lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
            lines += [field_row(field, each, schema.get("required", ())) for field, each in fields.items()]
        elif "enum" in schema:
            lines.append(kind_of(schema))
        yield "\n".join([*lines, ""])


def field_row(name: str, schema: Document, required: Any) -> str:
    default = "needed" if name in required else written(schema.get("default"))
    return f"| `{name}` | {kind_of(schema)} | {cell(default)} | {cell(schema.get('description', ''))} |"


def written(default: Any) -> str:
    """A default as JSON; that of a document is told where the document is."""
    return "" if default is None or (isinstance(default, dict) and default) else f"`{json.dumps(default)}`"


def kind_of(schema: Document) -> str:
    """A type in words: a document's name, a list of something, a number with its bounds."""
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(kind_of(each) for each in schema[several]))
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {kind_of(schema['items'])}" if "items" in schema else "list"
    return f"{schema.get('format', schema.get('type', 'anything'))}{bounds(schema)}"


def bounds(schema: Document) -> str:
    """` ≥ 1, ≤ 1000`, where there are any."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    said = ", ".join(f"{sign} {schema[name]}" for name, sign in signs.items() if name in schema)
    return f" {said}" if said else ""


def paragraph(described: Document) -> list[str]:
    text = one_paragraph(described.get("description", ""))
    return [text, ""] if text else []


def one_paragraph(text: str) -> str:
    return " ".join(text.split())


def cell(text: str) -> str:
    return one_paragraph(text).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
