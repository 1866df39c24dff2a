"""Bytes that are no HTTP, or HTTP that lies, around a body that would be welcome; and how to send them.

Where a server forgives what it must refuse, the body is carried out: that is what the tests look for.
"""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from tests.contracts.malformed import Malformed

PATIENCE_S = 20.0
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """What is sent. One that is `cut` promises more: the sender hangs up instead, and may get no answer."""

    why: str
    sent: bytes
    cut: bool = False


def exchange(port: int, raw: Bytes) -> list[int]:
    """The statuses that a server on loopback answered before it closed the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as line:
        answer = b""
        try:
            line.sendall(raw.sent)
            if raw.cut:
                line.shutdown(socket.SHUT_WR)
            while part := line.recv(65536):
                answer += part
        except TimeoutError:
            raise
        except OSError:  # it had read enough, and hung up
            pass
    return [int(status) for status in STATUS.findall(answer)]


def over_http(request: Malformed) -> Bytes | None:
    """A request whole and with its true length, or None where it cannot be written as HTTP at all."""
    length = (b"content-length", str(len(request.body)).encode())
    lines = [name + b": " + value for name, value in request.under(length, (b"connection", b"close")).headers]
    target = (request.path + (f"?{request.query}" if request.query else "")).encode("latin-1", "replace")
    first = b" ".join((request.method.encode(), target, b"HTTP/1.1"))
    sent = b"\r\n".join((first, b"Host: robot", *lines, b"", request.body))
    promised = dict(request.headers).get(b"content-length", length[1])
    return Bytes(why=request.why, sent=sent, cut=promised != length[1])


def no_http(target: str, body: bytes, *, headers: tuple[bytes, ...] = ()) -> Iterator[Bytes]:
    """Requests to one call, whose body and further headers are good, and whose HTTP is not."""
    message = _Message(target.encode(), body, (b"Content-Type: application/json", *headers))
    yield from _request_lines(message)
    yield from _header_lines(message)
    yield from _lengths(message)
    yield from _chunks(message)
    yield from _noise(message)


@dataclass(frozen=True, slots=True)
class _Message:
    target: bytes
    body: bytes
    headers: tuple[bytes, ...]

    @property
    def length(self) -> bytes:
        return b"Content-Length: %d" % len(self.body)

    def head(self, *more: bytes, first: bytes | None = None) -> bytes:
        line = b"POST " + self.target + b" HTTP/1.1" if first is None else first
        return b"\r\n".join((line, b"Host: robot", b"Connection: close", *self.headers, *more, b"", b""))

    def whole(self, *more: bytes, first: bytes | None = None) -> bytes:
        return self.head(self.length, *more, first=first) + self.body


def _request_lines(message: _Message) -> Iterator[Bytes]:
    at = message.target
    for first in (
        b"POST " + at,
        b"POST " + at + b" HTTP/9.9",
        b"POST " + at + b" HTTP/1.1 HTTP/1.1",
        b"POST " + at + b" HTTPS/1.1",
        b"POST " + at + b" ICE/1.0",
        b"POST " + at + b" HTTP/1.1\x00",
        b"POST\x00 " + at + b" HTTP/1.1",
        b"POST " + at + b"\x00 HTTP/1.1",
        b"POST " + at + b"\r HTTP/1.1",
        b"POST " + at + b" x HTTP/1.1",
        b"POST " + at + b"\xff\xfe HTTP/1.1",
        b"post " + at + b" HTTP/1.1",
        b"P\xd6ST " + at + b" HTTP/1.1",
        b"BREW " + at + b" HTTP/1.1",
        b"POST HTTP/1.1",
        b" POST " + at + b" HTTP/1.1",
        b": " + at,
        at,
    ):
        yield Bytes(why=f"first line {first[-24:]!r}", sent=message.whole(first=first), cut=True)


def _header_lines(message: _Message) -> Iterator[Bytes]:
    for line in (
        b"no colon",
        b": no name",
        b"A B: space",
        b"Fence : 1",
        b"Nul: a\x00b",
        b"Return: a\rb",
        b"Bell\x07: a",
        b"\xff\xfe: a",
        b"Long: " + b"x" * 200_000,
        b"x" * 200_000 + b": long",
        b"\r\n".join(b"Many%d: x" % number for number in range(20_000)),
    ):
        yield Bytes(why=f"header {line[:12]!r}", sent=message.whole(line), cut=True)


def _lengths(message: _Message) -> Iterator[Bytes]:
    body, true = message.body, len(message.body)
    for found in (
        b"-1",
        b"",
        b"one",
        b"+5",
        b"0x10",
        b"1e3",
        b"5, 6",
        b"9" * 30,
        b"%d " % true + b"0",
        b"\xd9\xa1",
    ):
        sent = message.head(b"Content-Length: " + found) + body
        yield Bytes(why=f"length {found[:9]!r}", sent=sent, cut=True)
    for other in (0, 1, true - 1, true + 1, 10**7):
        sent = message.head(b"Content-Length: %d" % other, message.length) + body
        yield Bytes(why=f"two lengths, {other} first", sent=sent, cut=True)
    for less in range(1, true, max(1, true // 12)):
        yield Bytes(
            why=f"{less} bytes too short", sent=message.head(b"Content-Length: %d" % (true - less)) + body
        )
    for more in (1, 7, 1000, 200_000, 10**12):
        sent = message.head(b"Content-Length: %d" % (true + more)) + body
        yield Bytes(why=f"{more} bytes too long", sent=sent, cut=True)
    for end in range(1, true, max(1, true // 12)):
        yield Bytes(why=f"hung up after {end}", sent=message.head(message.length) + body[:end], cut=True)


def _chunks(message: _Message) -> Iterator[Bytes]:
    body, size = message.body, b"%x" % len(message.body)
    chunked = message.head(b"Transfer-Encoding: chunked")
    for raw in (
        b"zz\r\n" + body + b"\r\n0\r\n\r\n",
        b"-5\r\n" + body + b"\r\n0\r\n\r\n",
        b"0x" + size + b"\r\n" + body + b"\r\n0\r\n\r\n",
        b"f" * 20 + b"\r\n" + body + b"\r\n0\r\n\r\n",
        b"%x\r\n" % (len(body) - 1) + body + b"\r\n0\r\n\r\n",
        b"%x\r\n" % (len(body) + 9) + body + b"\r\n0\r\n\r\n",
        size + b"\r\n" + body,
        size + b"\r\n" + body + b"\r\n",
        size + b"\r\n" + body + b"0\r\n\r\n",
        size + b"\r\n" + body + b"\r\n0\r\nno colon\r\n\r\n",
        b"\r\n" + body + b"\r\n0\r\n\r\n",
        b"0\r\n\r\n",
        body,
    ):
        yield Bytes(why=f"chunk {raw[:9]!r}", sent=chunked + raw, cut=True)
    good = size + b"\r\n" + body + b"\r\n0\r\n\r\n"
    for coding in (b"identity, chunked, x", b"xchunked", b"chunked, identity", b"gzip", b"\x0bchunked"):
        sent = message.head(b"Transfer-Encoding: " + coding) + good
        yield Bytes(why=f"coding {coding!r}", sent=sent, cut=True)
    for length in (0, 3, len(good), len(body)):
        sent = message.head(b"Transfer-Encoding: chunked", b"Content-Length: %d" % length) + good
        yield Bytes(why=f"chunked, and {length} long", sent=sent, cut=True)
    many = b"".join(b"1000\r\n" + b" " * 4096 + b"\r\n" for _ in range(300))
    yield Bytes(why="chunks for ever", sent=chunked + many + b"0\r\n\r\n")


def _noise(message: _Message) -> Iterator[Bytes]:
    rng, whole = random.Random(7), message.whole()
    for number in range(20):
        yield Bytes(why="noise", sent=rng.randbytes(200 * number + 1), cut=True)
    for number in range(10):
        yield Bytes(why="cut", sent=whole[: (number + 1) * len(message.head()) // 12], cut=True)
    yield Bytes(why="TLS", sent=bytes.fromhex("16030100c2010000be0303") + rng.randbytes(190), cut=True)
    yield Bytes(why="HTTP/2", sent=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.randbytes(50), cut=True)
    yield Bytes(why="nothing", sent=b"", cut=True)
    yield Bytes(why="a reply", sent=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", cut=True)
