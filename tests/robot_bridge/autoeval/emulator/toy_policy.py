"""A policy server of a few lines: it remembers every call and answers as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STAY = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
FORWARD = [0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]

Answer = tuple[int, bytes]


@dataclass(frozen=True)
class Call:
    endpoint: str
    body: bytes
    headers: dict[str, str]
    connection: int  # the client's port: equal for calls over one connection

    @property
    def tree(self) -> Any:
        return json.loads(self.body)


@dataclass
class ToyPolicy:
    """What it answers, and what it was asked. `act` gets the number of the call, counted from 0."""

    act: Callable[[int], Answer] = lambda _: (200, json.dumps(STAY).encode())
    reset: Callable[[int], Answer] = lambda _: (200, b"{}")
    calls: list[Call] = field(default_factory=list)
    port: int = 0
    arrived: threading.Condition = field(default_factory=threading.Condition)
    gone: threading.Event = field(default_factory=threading.Event)  # a client left while it waited

    def endpoints(self) -> list[str]:
        return [call.endpoint for call in self.calls]

    def acts(self) -> list[Call]:
        return [call for call in self.calls if call.endpoint.endswith("/act")]

    def wait_for(self, count: int, *, within_s: float = 20.0) -> None:
        """Until `count` calls have arrived."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.calls) >= count, timeout=within_s), self.endpoints()


def always(value: Any, status: int = 200) -> Callable[[int], Answer]:
    return lambda _: (status, json.dumps(value).encode())


@contextmanager
def serving(policy: ToyPolicy) -> Iterator[ToyPolicy]:
    """Serve a policy on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            call = Call(self.path, body, dict(self.headers), self.client_address[1])
            with policy.arrived:
                chosen = policy.act if self.path.endswith("/act") else policy.reset
                index = sum(known.endpoint == self.path for known in policy.calls)
                policy.calls.append(call)
                policy.arrived.notify_all()
            status, answer = chosen(index)
            if status == 0:  # say nothing until the other side hangs up
                self.rfile.read(1)
                policy.gone.set()
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that hangs up is not this server's trouble."""

    with Server(("127.0.0.1", 0), Handler) as server:
        policy.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield policy
        finally:
            server.shutdown()
            thread.join()


SILENCE: Callable[[int], Answer] = lambda _: (0, b"")  # noqa: E731
