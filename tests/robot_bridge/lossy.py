"""A TCP relay in front of a station that can lose an answer after the station has given it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class LossyRelay:
    """Relays connections; while `lose` is above 0, the next answers are swallowed and the connection is cut.

    `cut_after` bytes of the lost answer still go through.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (str(parts.hostname), int(parts.port or 0))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.lose = 0
        self.lost = 0
        self.cut_after = 0
        self._threads: list[threading.Thread] = []
        self._ends: list[socket.socket] = []
        self._start(self._accept)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:  # a client keeps its connections for as long as it lives
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _start(self, target: object, *args: object) -> None:
        self._threads.append(threading.Thread(target=target, args=args))  # type: ignore[arg-type]
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                station = socket.create_connection(self._upstream)
                self._ends += [client, station]
                self._start(self._relay, client, station)

    def _relay(self, client: socket.socket, station: socket.socket) -> None:
        with client, station:
            asking = threading.Thread(target=self._pump, args=(client, station))
            asking.start()
            with suppress(OSError):
                while answer := station.recv(65536):
                    if self.lose > 0:
                        self.lose -= 1
                        self.lost += 1
                        client.sendall(answer[: self.cut_after])
                        break
                    client.sendall(answer)
            for end in (client, station):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            asking.join()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                target.sendall(chunk)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@contextmanager
def lossy(upstream: str) -> Iterator[LossyRelay]:
    """A relay in front of a station, for the length of a with block."""
    relay = LossyRelay(upstream)
    try:
        yield relay
    finally:
        relay.close()
