"""Running the emulator: bind on loopback, say where, serve until told to stop."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from robot_bridge.autoeval.emulator.app import create_emulator_app
from robot_bridge.autoeval.emulator.arm import Cell
from robot_bridge.autoeval.emulator.quirks import Quirks

log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
GRACE_S: Final = 5  # how long a call that runs may take to end when the emulator is told to stop


def serve_emulator(
    root: Path, *, quirks: Quirks, announce: Callable[[str], None], cell_seed: int = 0, port: int = 0
) -> None:
    """Serve until SIGINT or SIGTERM; jobs that run are cut off then and run again at the next start.

    Port 0 takes a free one; `announce` is called with the base url once connections are accepted. The
    emulator calls any address that a job names, so it listens on loopback only.
    """
    with _listen(port) as listener:
        server = _server(create_emulator_app(root, quirks=quirks, cell_seed=cell_seed), root=root)
        announce(_url(listener))
        server.run(sockets=[listener])


@contextmanager
def running_emulator(
    root: Path,
    *,
    quirks: Quirks,
    cell_seed: int = 0,
    port: int = 0,
    build: Callable[[], Cell] | None = None,
) -> Iterator[str]:
    """An emulator on loopback, in a thread of this program; gives its base url."""
    with _listen(port) as listener:
        app = create_emulator_app(root, quirks=quirks, cell_seed=cell_seed, build=build)
        server = _server(app, root=root)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="autoeval")
        thread.start()
        try:
            yield _url(listener)
        finally:
            server.should_exit = True
            thread.join()


def _server(app: FastAPI, *, root: Path) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=GRACE_S,
    )
    log.info("autoeval emulator ready root=%s", root)
    return uvicorn.Server(config)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen(128)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"
