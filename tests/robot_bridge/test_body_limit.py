"""Bodies over the limit are refused, by what they say and by what they are; the others arrive whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from robot_bridge.body_limit import BodyLimit

LIMIT = 1000


def refusal(found: int, allowed: int) -> Response:
    return PlainTextResponse(f"{found} of {allowed}", status_code=413)


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    app.add_middleware(BodyLimit, refuse=refusal, max_bytes=LIMIT)

    @app.post("/")
    async def measure(request: Request) -> int:
        return len(await request.body())

    @app.get("/")
    def read() -> str:
        return "read"

    with TestClient(app) as client:
        yield client


def in_pieces(total: int, piece: int = 64) -> Iterator[bytes]:
    """A body of unknown length: the client declares none."""
    while total > 0:
        yield b"x" * min(piece, total)
        total -= piece


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_a_body_within_the_limit_arrives_whole(client: TestClient, size: int) -> None:
    assert client.post("/", content=b"x" * size).json() == size


def test_a_body_one_byte_too_long_is_refused_with_both_lengths(client: TestClient) -> None:
    answer = client.post("/", content=b"x" * (LIMIT + 1))
    assert (answer.status_code, answer.text) == (413, f"{LIMIT + 1} of {LIMIT}")


def test_a_body_of_undeclared_length_is_measured_not_believed(client: TestClient) -> None:
    assert client.post("/", content=in_pieces(LIMIT)).json() == LIMIT
    assert client.post("/", content=in_pieces(LIMIT + 1)).status_code == 413


def test_requests_without_a_body_pass(client: TestClient) -> None:
    assert client.get("/").json() == "read"


def test_the_connection_serves_again_after_a_refusal(client: TestClient) -> None:
    client.post("/", content=b"x" * 5000)
    assert client.post("/", content=b"xy").json() == 2


class Connection:
    """A client's end as ASGI sees it: gives its messages, keeps what is sent, counts what was read."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)
        self.read = 0
        self.seen: list[Message] = []
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        self.read += 1
        return self._messages.pop(0) if self._messages else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Takes whatever comes until the client is gone."""
        while not self.seen or self.seen[-1]["type"] != "http.disconnect":
            self.seen.append(await receive())

    def call(self, kind: str = "http", **headers: str) -> None:
        rows = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope: dict[str, Any] = {"type": kind, "path": "/v1/steps", "headers": rows}
        limited = BodyLimit(self.app, refuse=refusal, max_bytes=LIMIT)
        asyncio.run(limited(scope, self.receive, self.send))


def a_part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    connection = Connection(a_part(b"x", more=False))
    connection.call(content_length=str(LIMIT + 1))
    assert (connection.read, connection.seen) == (0, [])
    assert connection.sent[0]["status"] == 413


@pytest.mark.parametrize("declared", ["", "-1", "1e9", "0x7fffffff", "many", "1, 2"])
def test_a_length_that_is_no_number_is_not_believed(declared: str) -> None:
    connection = Connection(a_part(b"abc", more=False))
    connection.call(content_length=declared)
    assert connection.seen[0]["body"] == b"abc"


def test_a_body_without_an_end_is_not_read_to_it() -> None:
    connection = Connection(*[a_part(b"x" * 100, more=True)] * 1000)
    connection.call()
    assert connection.read == LIMIT // 100 + 1
    assert (connection.seen, connection.sent[0]["status"]) == ([], 413)


def test_half_a_body_is_never_handed_on_as_a_whole_one() -> None:
    """The client left in the middle: whoever reads on must find that out."""
    connection = Connection(a_part(b'{"reason": "a"', more=True))
    connection.call()
    assert connection.seen == [a_part(b'{"reason": "a"', more=True), {"type": "http.disconnect"}]


def test_other_connections_than_http_pass_untouched() -> None:
    connection = Connection({"type": "lifespan.startup"})
    connection.call("lifespan")
    assert connection.seen[0] == {"type": "lifespan.startup"}


@given(st.lists(st.binary(max_size=400), max_size=6))
def test_a_body_arrives_byte_for_byte_or_not_at_all_however_it_was_cut(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    messages = [a_part(part, more=True) for part in parts] + [a_part(b"", more=False)]
    connection = Connection(*messages)
    connection.call()
    if len(whole) <= LIMIT:
        assert connection.seen[0] == a_part(whole, more=False)
    else:
        assert connection.seen == []


def test_a_path_of_its_own_limit_takes_more_and_the_others_do_not() -> None:
    app = FastAPI()
    app.add_middleware(BodyLimit, refuse=refusal, max_bytes=LIMIT, larger={"/pictures": 3 * LIMIT})

    @app.post("/{path}")
    async def measure(request: Request) -> int:
        return len(await request.body())

    with TestClient(app) as client:
        assert client.post("/pictures", content=b"x" * 3 * LIMIT).json() == 3 * LIMIT
        answer = client.post("/pictures", content=b"x" * (3 * LIMIT + 1))
        assert (answer.status_code, answer.text) == (413, f"{3 * LIMIT + 1} of {3 * LIMIT}")
        assert client.post("/others", content=b"x" * (LIMIT + 1)).status_code == 413
        assert client.post("/pictures", content=in_pieces(3 * LIMIT)).json() == 3 * LIMIT
