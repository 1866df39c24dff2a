"""An OpenAI-compatible endpoint that behaves as real ones do on bad days."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DRIP_S = 0.05
UNPAID = {"busy", "later", "at_once", "late", "broken", "refused", "filtered", "hangs_up"}


class Endpoint:
    """Answers with the next of `days`, and well when there is none left.

    ok · busy (429) · later, at_once (429 with Retry-After of 3 and 0) · late (408) · broken (500) ·
    gateway (504) · refused (401) · filtered (400) ·
    hangs · hangs_up · garbage · truncated · array · nulls · ugly (text without a score) ·
    split (votes that disagree) · one (a single choice) · drip · huge
    """

    def __init__(self, answer: str = "It is open.\nScore: 1") -> None:
        self.answer = answer
        self.days: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.dripped, self.whole = 0, 1  # bytes of a slow answer that left, and all that it has
        self.worked = 0  # requests that a real endpoint would charge
        self.url = ""
        self._lock = threading.Lock()
        self.closing = threading.Event()

    def day(self, body: dict[str, Any], key: str | None) -> str:
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            day = self.days.pop(0) if self.days else "ok"
            self.worked += day not in UNPAID
        return day

    def document(self, choices: int) -> dict[str, Any]:
        message = {"message": {"role": "assistant", "content": self.answer}}
        usage = {"prompt_tokens": 1000, "completion_tokens": 50 * choices}
        return {"choices": [message] * choices, "usage": usage}


class Handler(BaseHTTPRequestHandler):
    endpoint: Endpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        day = self.endpoint.day(body, self.headers.get("Authorization"))
        getattr(self, f"_{day}")(body)

    def _send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def _document(self, document: object) -> None:
        self._send(200, json.dumps(document).encode())

    def _ok(self, body: dict[str, Any]) -> None:
        self._document(self.endpoint.document(body["n"]))

    def _one(self, body: dict[str, Any]) -> None:
        self._document(self.endpoint.document(1))

    def _busy(self, body: dict[str, Any]) -> None:
        self._send(429, b'{"error": "slow down"}')

    def _later(self, body: dict[str, Any]) -> None:
        self._send(429, b"{}", Retry_After="3")

    def _at_once(self, body: dict[str, Any]) -> None:
        self._send(429, b"{}", Retry_After="0")

    def _broken(self, body: dict[str, Any]) -> None:
        self._send(500, b"oops")

    def _refused(self, body: dict[str, Any]) -> None:
        self._send(401, b'{"error": "no such key"}')

    def _late(self, body: dict[str, Any]) -> None:
        self._send(408, b"{}")

    def _gateway(self, body: dict[str, Any]) -> None:
        self._send(504, b"whoever is behind me still works")

    def _filtered(self, body: dict[str, Any]) -> None:
        self._send(400, b'{"error": {"code": "content_filter"}}')

    def _hangs(self, body: dict[str, Any]) -> None:
        self.endpoint.closing.wait(5)
        self.close_connection = True

    def _hangs_up(self, body: dict[str, Any]) -> None:
        self.close_connection = True

    def _garbage(self, body: dict[str, Any]) -> None:
        self._send(200, b"<html>welcome</html>")

    def _truncated(self, body: dict[str, Any]) -> None:
        self._send(200, json.dumps(self.endpoint.document(body["n"])).encode()[:40])

    def _array(self, body: dict[str, Any]) -> None:
        self._document([1, 2, 3])

    def _nulls(self, body: dict[str, Any]) -> None:
        self._document({"choices": [{"message": {"content": None}}] * body["n"], "usage": None})

    def _ugly(self, body: dict[str, Any]) -> None:
        message = {"message": {"content": "What a lovely robot!"}}
        self._document({"choices": [message] * body["n"]})

    def _split(self, body: dict[str, Any]) -> None:
        messages = [{"message": {"content": f"Score: {place % 2}"}} for place in range(body["n"])]
        self._document({"choices": messages})

    def _drip(self, body: dict[str, Any]) -> None:
        content = json.dumps(self.endpoint.document(body["n"])).encode()
        self.endpoint.whole = len(content)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for byte in content:
            if self.endpoint.closing.is_set():
                return
            try:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
            except OSError:
                return
            self.endpoint.dripped += 1
            time.sleep(DRIP_S)

    def _huge(self, body: dict[str, Any]) -> None:
        self._send(200, b" " * (5 * 1024 * 1024))

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def running(endpoint: Endpoint) -> Iterator[Endpoint]:
    """The endpoint on a free loopback port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"endpoint": endpoint}))
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
