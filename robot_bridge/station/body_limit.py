"""Request bodies are read up to a limit and no further; the rest of the station never sees a larger one."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from robot_bridge.errors import TooLarge
from robot_bridge.station.problems import answer_problem

MAX_BODY_BYTES: Final = 256 * 1024  # 64 actions are 10 kB


class BodyLimit:
    """ASGI middleware: answers too_large as soon as the declared or the received length is over the limit."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except TooLarge as error:
            await answer_problem(error)(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        self._require(int(declared) if declared.isdigit() else 0)
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            self._require(len(body))
        return body

    def _require(self, length: int) -> None:
        if length > self._max_bytes:
            raise TooLarge(found=length, expected=self._max_bytes)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A receive channel that gives the whole body once, then whatever the connection says."""
    given = False

    async def channel() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return channel
