"""Something that listens where a policy should: answers request n with script n, the last one for ever."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Script = Callable[[socket.socket], None]


def says(status: int, content: bytes, **headers: str) -> Script:
    """A whole answer, after which the connection stays open."""
    return lambda connection: connection.sendall(rendered(status, content, **headers))


def as_json(tree: object, status: int = 200) -> Script:
    return says(status, json.dumps(tree).encode(), Content_Type="application/json")


def as_problem(code: str, detail: str = "why", status: int = 503, **parts: object) -> Script:
    body = {"type": "t", "title": "t", "status": status, "detail": detail, "code": code, "parts": parts}
    return says(status, json.dumps(body).encode(), Content_Type="application/problem+json")


def rendered(status: int, content: bytes, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def hangs_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


class CannedPolicy:
    """Keeps connections open between answers, as a real server does."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.connections = 0
        self.closing = threading.Event()
        self._counting = threading.Lock()
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._ends.append(connection)
                self._threads.append(threading.Thread(target=self._converse, args=(connection,)))
                self._threads[-1].start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while request := _read(connection):
                with self._counting:
                    self.requests.append(request)
                    script = self._scripts[min(len(self.requests), len(self._scripts)) - 1]
                script(connection)


def _read(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        if not more:
            return b""
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-le")]
    while len(body) < int(lengths[0] if lengths else 0):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def canned_policy(*scripts: Script) -> Iterator[CannedPolicy]:
    server = CannedPolicy(*scripts)
    try:
        yield server
    finally:
        server.close()
