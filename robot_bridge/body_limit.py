"""Request bodies are read up to a limit and no further; what lies behind sees no larger one, and no half.

What the refusal looks like is for whoever puts it in front of an application.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Refuse: TypeAlias = Callable[[int, int], Response]  # bytes found so far, bytes allowed: the answer

MAX_BODY_BYTES: Final = 256 * 1024  # 64 actions are 10 kB, an iteration's spec is one


class BodyLimit:
    """ASGI middleware: refuses as soon as the declared or the received length is over the limit.

    `larger` has the limits of paths that take more than the others.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        refuse: Refuse,
        max_bytes: int = MAX_BODY_BYTES,
        larger: Mapping[str, int] | None = None,
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._max_bytes = max_bytes
        self._larger = larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._larger.get(scope["path"], self._max_bytes)
        length = _declared(scope)
        messages: list[Message] = []
        if length <= most:
            messages, length = await self._read(receive, most)
        if length > most:
            await self._refuse(length, most)(scope, receive, send)
            return
        await self._app(scope, _replayed(messages, receive), send)

    async def _read(self, receive: Receive, most: int) -> tuple[list[Message], int]:
        """The messages of a body as one, and its length; a connection that was lost stays one that was."""
        body, more = bytearray(), True
        while more and len(body) <= most:
            message = await receive()
            if message["type"] != "http.request":
                return [{"type": "http.request", "body": bytes(body), "more_body": True}, message], len(body)
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return [{"type": "http.request", "body": bytes(body), "more_body": False}], len(body)


def _declared(scope: Scope) -> int:
    """The length that the client says the body has; 0 when it says none."""
    declared: bytes = dict(scope["headers"]).get(b"content-length", b"")
    return int(declared) if declared.isdigit() else 0


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    """A receive channel that gives these messages, then whatever the connection says."""
    pending = iter(messages)

    async def channel() -> Message:
        message = next(pending, None)
        return await receive() if message is None else message

    return channel
