"""HTTP connections that end on time, for `requests`.

A time-out of `requests` begins anew with every byte that arrives, so a server that trickles an answer holds
its caller as long as it likes. Here a whole call has one moment at which it must be over. What is called,
and what a late answer means, is not here.
"""

from __future__ import annotations

import re
import socket
import time
from io import BufferedReader, RawIOBase
from typing import Any, Final, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

READ_BYTES: Final = 64 * 1024  # at once; an answer is read in one go

_HEAD_OF_BODY: Final = re.compile(rb"\r\ncontent-length: *[1-9][0-9]*\r\n(?s:.*)\r\n\r\n\Z", re.IGNORECASE)


def left_until(deadline: float) -> float:
    """Seconds until the deadline.

    Raises:
        TimeoutError: it is over.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class Until:
    """When the call that one session is making must be over: `deadline`, in monotonic seconds."""

    def __init__(self) -> None:
        self.deadline = 0.0


def bounded_session() -> tuple[requests.Session, Until]:
    """A session, and the moment at which its next call must be over: set it before each of them."""
    session, until = requests.Session(), Until()
    for scheme in ("http://", "https://"):
        session.mount(scheme, BoundedAdapter(until))
    return session, until


class _BoundedReader(RawIOBase):
    """The reading side of a socket; every read waits no longer than what is left of the call."""

    def __init__(self, sock: socket.socket, until: Until) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(left_until(self._until.deadline))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _BoundedSocket:
    """A socket that is read through a `_BoundedReader`; otherwise the socket itself.

    A request leaves in one piece: its head waits for its body, which spares the server one awakening.
    """

    def __init__(self, sock: socket.socket, until: Until) -> None:
        self._sock = sock
        self._until = until
        self._head = b""

    def sendall(self, sent: bytes) -> None:
        if not self._head and _HEAD_OF_BODY.search(sent):
            self._head = bytes(sent)
            return
        whole, self._head = self._head + sent, b""
        self._sock.sendall(whole)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, *_: Any, **__: Any) -> BufferedReader:
        return BufferedReader(_BoundedReader(self._sock, self._until), READ_BYTES)


class BoundedAdapter(HTTPAdapter):
    """What `bounded_session` mounts: each call is over at `until.deadline`."""

    def __init__(self, until: Until) -> None:
        self._until = until
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        until = self._until

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                self.sock = cast(socket.socket, _BoundedSocket(self.sock, until))

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                self.sock = cast(socket.socket, _BoundedSocket(self.sock, until))

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self._pools: dict[str, type[HTTPConnectionPool]] = {"http": PlainPool, "https": SecurePool}
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """A proxy's connections end on time too."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager
