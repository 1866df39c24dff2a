"""Finding and killing the processes of a lab, and a network that can be cut between two of them."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.waiting import until

DEADLINE_S = 240.0


def kill_server(announced: Path) -> None:
    """kill -9 of the server that announces itself in this file, with whatever it started."""
    (pid,) = [pid for pid in _numbers() if str(announced) in _words(pid)]
    os.kill(pid, signal.SIGKILL)
    until(lambda: _gone(pid), f"the end of process {pid}", within_s=20)


def kill_worker(log: Path) -> None:
    """kill -9 of the newest worker that the daemon's log tells of: the one that acts."""
    pids = re.findall(r"worker started .*pid=(\d+)", log.read_text())
    os.kill(int(pids[-1]), signal.SIGKILL)


def rows(lab: Path, query: str) -> list[tuple[Any, ...]]:
    """Rows of the lab's database, read past all our own code."""
    with closing(sqlite3.connect(lab / "data" / "gymnastd.sqlite3")) as connection:
        return connection.execute(query).fetchall()


def _numbers() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _words(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _gone(pid: int) -> bool:
    """Dead, if perhaps not yet buried by its parent."""
    with suppress(OSError):
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    return True


class Cable:
    """A TCP relay that can be cut: nothing is refused, nothing arrives; what was sent comes afterwards.

    Args:
        upstream: a URL, or the path of a socket.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._whole = threading.Event()
        self._whole.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """No byte gets through for the length of a with block."""
        self._whole.clear()
        try:
            yield
        finally:
            self._whole.set()

    def close(self) -> None:
        self._whole.set()
        self._listener.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._whole.wait()
                try:
                    far = self._connect()
                except OSError:  # nobody is there now; whoever comes later may find somebody
                    near.close()
                    continue
                self._ends += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _connect(self) -> socket.socket:
        if self._upstream.startswith("/"):
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._upstream)
            return far
        parts = urlsplit(self._upstream)
        return socket.create_connection((str(parts.hostname), int(parts.port or 0)))

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                self._whole.wait()
                target.sendall(chunk)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextmanager
def cable(upstream: str) -> Iterator[Cable]:
    """A cable to a server, for the length of a with block."""
    made = Cable(upstream)
    try:
        yield made
    finally:
        made.close()
