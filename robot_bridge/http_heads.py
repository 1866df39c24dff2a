"""The head of an HTTP request, held to a limit and to HTTP/1: uvicorn's parser reads on for ever without one.

An app sees a request only after its head; what a stranger writes before that is nobody's to bound but the
server's. Bodies have limits of their own, in each app.
"""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_MAX_BYTES: Final = 64 * 1024  # of target and headers together; ours have less than one
VERSIONS: Final = {"1.0", "1.1"}


class HeadRefused(ValueError):
    """A head that is too long, or of another HTTP; the connection is answered 400 and closed."""


class BoundedHeads(HttpToolsProtocol):
    """What uvicorn is given as `http`. A request that is refused here reaches no app."""

    _in_head = True
    _fed_bytes = 0  # of a head that came in pieces, without its first piece
    _head_bytes = 0  # of target and headers that are whole

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless a head goes on beyond the limit and still has no end."""
        was_in_head = self._in_head
        super().data_received(data)
        if was_in_head and self._in_head and not self.transport.is_closing():
            self._fed_bytes += len(data)
            if self._fed_bytes > HEAD_MAX_BYTES:
                self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._fed_bytes, self._head_bytes = True, 0, 0

    def on_url(self, url: bytes) -> None:
        self._require_short(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._require_short(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            raise HeadRefused(f"HTTP/{version}")
        self._in_head = False
        super().on_headers_complete()

    def _require_short(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > HEAD_MAX_BYTES:
            raise HeadRefused("too long")
