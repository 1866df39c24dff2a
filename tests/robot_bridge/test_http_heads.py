"""What a server reads before any app does, through a real socket."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI, Request

from robot_bridge.http_heads import HEAD_MAX_BYTES, BoundedHeads
from robot_bridge.listening import Address, serving

PATIENCE_S = 20.0
BODY = b"x" * (3 * HEAD_MAX_BYTES)


@pytest.fixture
def asked() -> list[int]:
    return []


@pytest.fixture
def port(asked) -> Iterator[int]:
    app = FastAPI()

    @app.post("/{rest:path}")
    async def take(request: Request) -> int:
        asked.append(len(await request.body()))
        return asked[-1]

    address = Address()
    with address.listen() as listener:
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", http=BoundedHeads)
        with serving(uvicorn.Server(config), listener, name="heads"):
            yield listener.getsockname()[1]


def statuses(port: int, *pieces: bytes) -> list[int]:
    """What is answered to pieces of which each was read before the next one is sent."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                line.sendall(piece)
            while part := line.recv(65536):
                answer += part
        except (ConnectionResetError, BrokenPipeError):  # it had read enough, and hung up
            pass
    return [int(found) for found in re.findall(rb"HTTP/1.1 (\d{3}) ", answer)]


def head(*lines: bytes, first: bytes = b"POST /a HTTP/1.1", last: bool = True) -> bytes:
    closing = (b"Connection: close",) if last else ()
    return b"\r\n".join((first, b"Host: a", *closing, *lines, b"", b""))


def test_a_head_within_the_limit_is_answered_however_long_the_body(port, asked):
    padding = b"Padding: " + b"x" * (HEAD_MAX_BYTES - 1000)
    sent = head(padding, b"Content-Length: %d" % len(BODY)) + BODY
    assert statuses(port, sent) == [200]
    assert asked == [len(BODY)]


def test_every_request_of_a_connection_has_the_whole_limit_for_itself(port, asked):
    padding = b"Padding: " + b"x" * (HEAD_MAX_BYTES // 2)
    more = head(padding, b"Content-Length: %d" % len(BODY), last=False) + BODY
    assert statuses(port, more, more, head(padding, b"Content-Length: 2") + b"ab") == [200] * 3
    assert asked == [len(BODY), len(BODY), 2]


@pytest.mark.parametrize(
    "line",
    [
        b"Long: " + b"x" * HEAD_MAX_BYTES,
        b"x" * HEAD_MAX_BYTES + b": long",
        b"\r\n".join(b"Many%d: x" % number for number in range(10_000)),
    ],
    ids=["value", "name", "many"],
)
def test_a_head_above_the_limit_reaches_no_app(port, asked, line):
    found = statuses(port, head(line, b"Content-Length: 0"))
    assert found in ([400], [])  # who is hung up on while it sends may miss the answer
    assert asked == []


def test_a_target_above_the_limit_reaches_no_app(port, asked):
    first = b"POST /" + b"a" * HEAD_MAX_BYTES + b" HTTP/1.1"
    assert statuses(port, head(b"Content-Length: 0", first=first)) in ([400], [])
    assert asked == []


@pytest.mark.parametrize("start", [b"POST /a HTTP/1.1\r\nEndless: ", b"POST /"], ids=["header", "target"])
def test_a_head_without_an_end_is_cut_off(port, asked, start):
    """Without a limit this would be sent to its end, and the connection would wait for more."""
    found = statuses(port, start, *[b"x" * 10_000] * (20 * HEAD_MAX_BYTES // 10_000))
    assert found in ([400], [])
    assert asked == []


@pytest.mark.parametrize("first", [b"POST /a", b"POST /a HTTP/2.0", b"POST /a HTTP/0.9"])
def test_another_http_reaches_no_app(port, asked, first):
    assert statuses(port, head(b"Content-Length: 0", first=first)) == [400]
    assert asked == []


def test_http_1_0_is_answered(port):
    assert statuses(port, head(b"Content-Length: 0", first=b"POST /a HTTP/1.0")) == [200]
