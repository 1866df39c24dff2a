"""Requests whose body is too large are refused before anything reads them into a document."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.api.problems import problem_of
from daemon.errors import RequestTooLarge

LIMIT_BYTES = 256 * 1024  # a spec is about one kilobyte


class BodyLimit:
    """ASGI middleware: collects at most `limit_bytes` of a body, whatever length the client declared."""

    def __init__(self, app: ASGIApp, limit_bytes: int = LIMIT_BYTES) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await self._collect(receive)
        if body is None:
            await problem_of(RequestTooLarge(limit_bytes=self._limit_bytes))(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _collect(self, receive: Receive) -> bytes | None:
        """Read the body to its end; None when it outgrows the limit. A client that left has an empty one."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return bytes(body)
            body += message.get("body", b"")
            if len(body) > self._limit_bytes:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand the collected body on as one message, then whatever the connection says."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
