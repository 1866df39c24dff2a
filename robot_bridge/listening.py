"""Listening on an address, and serving there in a thread: what all servers of this project do alike.

Which app is served, and what protects it beyond TLS, is the business of each server.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn

from robot_bridge.errors import RobotBridgeError

BACKLOG: Final = 128  # connections that wait to be accepted


class TlsUnusable(RobotBridgeError):
    code = "tls_unusable"
    sentence = "TLS needs a certificate and its key, found {certificate} and {key}: {reason}. Give both."


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens, with TLS when it has both files. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @property
    def scheme(self) -> str:
        return "http" if self.tls_certificate is None else "https"

    def check_tls(self) -> None:
        """Raises:
        TlsUnusable: certificate and key are not two files that fit; neither of them is fine.
        """
        if self.tls_certificate is None and self.tls_key is None:
            return
        reason = "one is missing"
        if self.tls_certificate is not None and self.tls_key is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.tls_certificate, self.tls_key)
                return
            except OSError as error:  # a file that is not there, and SSLError
                reason = error.strerror or type(error).__name__
        raise TlsUnusable(certificate=self.tls_certificate, key=self.tls_key, reason=reason)

    def listen(self, backlog: int = BACKLOG) -> socket.socket:
        """A socket that accepts connections; it is the caller's to close.

        Raises:
            OSError: nothing can listen there.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self.port))
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
        return listener

    def url(self, listener: socket.socket) -> str:
        """What clients call a socket of this address."""
        host, port = listener.getsockname()[:2]
        return f"{self.scheme}://[{host}]:{port}" if ":" in host else f"{self.scheme}://{host}:{port}"


@contextmanager
def serving(server: uvicorn.Server, listener: socket.socket, *, name: str) -> Iterator[None]:
    """Serve in a thread of this program for the length of a with block."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name=name)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
