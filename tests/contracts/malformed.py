"""Malformed requests by the thousand: one request as bytes, an app asked without a socket, hostile JSON.

What is malformed for a station and for a gateway is in `malformed_station` and `malformed_gateway`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from requests import Request as Sendable
from schemathesis import GenerationMode

JSON = (b"content-type", b"application/json")
Header = tuple[bytes, bytes]
VERSION = {"station-protocol"}  # a wrong one would hide whatever else is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A request as it goes over the wire; `why` says in a few words what is wrong with it.

    Names in braces, in path and headers, stand for what is live when it is sent: a lease, an episode.
    """

    why: str
    method: str = "POST"
    path: str
    query: str = ""
    headers: tuple[Header, ...] = (JSON,)
    parts: tuple[bytes, ...] = (b"",)

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def dressed(self, names: dict[str, str]) -> Malformed:
        """The same request with what is live filled in."""
        path, headers = self.path, list(self.headers)
        for name, found in names.items():
            mark = "{" + name + "}"
            path = path.replace(mark, found)
            headers = [(key, value.replace(mark.encode(), found.encode())) for key, value in headers]
        return replace(self, path=path, headers=tuple(headers))

    def under(self, *headers: Header) -> Malformed:
        """The same request with headers that it has not yet."""
        mine = {name for name, _ in self.headers}
        return replace(self, headers=(*self.headers, *(pair for pair in headers if pair[0] not in mine)))


async def ask(app: FastAPI, request: Malformed, *, peer: str = "127.0.0.1") -> tuple[int, bytes]:
    """Status and body of the app's answer; what the app raises beyond its answer is a 500."""
    raw, _, _ = request.path.partition("#")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(raw),
        "raw_path": raw.encode("ascii", "replace"),
        "query_string": request.query.encode("utf-8", "surrogatepass"),
        "root_path": "",
        "headers": list(request.headers),
        "client": (peer, 50000),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    left = list(request.parts)
    status, body = 0, bytearray()

    async def receive() -> dict[str, Any]:
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body.extend(message.get("body", b""))

    try:
        await app(scope, receive, send)
    except Exception as error:  # the server's own last resort would answer 500 and log it
        return 500, repr(error).encode()
    return status, bytes(body)


def from_openapi(document: dict[str, Any], *, each: int) -> Iterator[Malformed]:
    """Requests that the document forbids, up to `each` different ones per call, the same every time.

    Left out are those that only have a query or a header too many: both are skipped wherever HTTP is spoken.
    So is the emergency stop: one that nobody understands stops all the same.
    """
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        if found.ok().path != "/v1/estop":
            with suppress(Unsatisfiable):  # nothing of this call can be wrong
                yield from _forbidden(found.ok(), each)


def _forbidden(operation: Any, each: int) -> list[Malformed]:
    seen: dict[Malformed, None] = {}

    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    @settings(
        max_examples=each,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def take(case: schemathesis.Case) -> None:
        made = _from_case(case)
        if made is not None:
            seen[made] = None

    take()
    return list(seen)


def _from_case(case: schemathesis.Case) -> Malformed | None:
    wrong = {place.value for place, part in case.meta.components.items() if part.mode.is_negative}
    if not wrong & ({"body", "path", "query"} if case.method.upper() == "GET" else {"body", "path"}):
        return None
    given = case.as_transport_kwargs(base_url="http://station")
    try:
        made = Sendable(**given).prepare()
    except (ValueError, UnicodeError):  # no client could send it
        return None
    asked = {name.lower() for name in case.headers} - VERSION | {"content-type"}
    headers = [(name.lower(), value) for name, value in made.headers.items() if name.lower() in asked]
    path, _, query = made.path_url.partition("?")
    path = path.replace("{", "%7B").replace("}", "%7D")
    body = made.body or b""
    return Malformed(
        why=f"schema: {', '.join(sorted(wrong))} of {case.method} {case.path}",
        method=case.method.upper(),
        path=path if "path" in wrong else case.path,
        query=query,
        headers=tuple((_bytes(name), _bytes(value)) for name, value in headers),
        parts=(_bytes(body),),
    )


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


DEEP = 10_000
NOT_A_NUMBER = {
    "null": "null",
    "true": "true",
    "false": "false",
    "text": '"0"',
    "word": '"NaN"',
    "empty": '""',
    "list": "[]",
    "object": "{}",
    "half a surrogate": '"\\ud800"',
    "nul": '"\\u0000"',
    "nested": "[" * DEEP + "]" * DEEP,
    "nested objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "million digits": "9" * 5000,
    "hex": "0x10",
    "leading zero": "007",
    "plus": "+1",
    "bare": "one",
}
NOT_A_TEXT = {
    "number": "5",
    "true": "true",
    "list": "[]",
    "object": '{"$ref": "#"}',
    "NaN": "NaN",
    "half a surrogate": '"\\ud83d"',
    "nested": "[" * DEEP + "]" * DEEP,
    "too long": '"' + "x" * 3000 + '"',
    "line break": '"a\nb"',
    "bad escape": '"\\x00"',
    "open end": '"abc',
}
FIELDS = ("more", "__proto__", "__class__", "\ud800", "\x00", "T", "", "x" * 5000, "é" * 100)
HOLE = "\u2603hole\u2603"


def leaves(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """All numbers and texts in a tree, each with the way to it."""
    if isinstance(tree, dict | list):
        pairs: Iterable[tuple[Any, Any]] = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, below in pairs:
            yield from leaves(below, (*at, key))
    else:
        yield at, tree


def changed(tree: Any, at: tuple[Any, ...], new: Any) -> Any:
    """A copy of the tree with one place of it changed."""
    if not at:
        return new
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[at[0]] = changed(tree[at[0]], at[1:], new)
    return copy


def spoiled(tree: dict[str, Any], *, free: frozenset[str] = frozenset()) -> Iterator[tuple[str, bytes]]:
    """Bodies beside a good one: every leaf replaced, fields added, missing and doubled, the text cut.

    Fields named in `free` may be left out.
    """
    for at, leaf in leaves(tree):
        text = json.dumps(changed(tree, at, HOLE))
        for what, raw in (NOT_A_TEXT if isinstance(leaf, str) else NOT_A_NUMBER).items():
            yield f"{at}: {what}", text.replace(json.dumps(HOLE), raw).encode()
    whole = json.dumps(tree)
    for name in FIELDS:
        yield f"field {name[:9]!a} more", json.dumps({**tree, name: 1}).encode()
    for name, found in tree.items():
        if name not in free:
            yield f"no {name}", json.dumps({key: tree[key] for key in tree if key != name}).encode()
        doubled = f"{{{json.dumps(name)}: {json.dumps(found)}, {whole[1:]}"
        yield f"{name} twice", doubled.encode()
    for end in range(1, min(len(whole), 200)):
        yield f"cut at {end}", whole[:end].encode()
    yield from _otherwise(whole)


def _otherwise(whole: str) -> Iterator[tuple[str, bytes]]:
    yield "a list around it", f"[{whole}]".encode()
    yield "as a text", json.dumps(whole).encode()
    yield "twice", (whole + whole).encode()
    yield "a comma more", (whole[:-1] + ",}").encode()
    yield "a comment", (whole + "// done").encode()
    yield "single quotes", whole.replace('"', "'").encode()
    yield "UTF-7", whole.encode("utf-7").replace(b"{", b"+AHs-")
    yield "bad UTF-8", whole.encode().replace(b'"', b'"\xff', 1)
    yield "overlong UTF-8", whole.encode().replace(b'"', b'"\xc0\x80', 1)
    yield "NUL after it", whole.encode() + b"\x00"
    for scalar in (b"null", b"true", b"0", b'""', b"[]", b"NaN", b"-", b"{", b"}", b"\xef\xbb\xbf", b"\x00"):
        yield f"only {scalar!r}", scalar


def scrambled(whole: bytes, *, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Bodies with a few bytes changed, each of them no JSON any more."""
    rng = random.Random(seed)
    while count:
        body = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(body))
            body[place : place + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
        try:
            json.loads(body)
        except (ValueError, RecursionError):
            yield "scrambled", bytes(body)
            count -= 1
