"""Running the emulator: bind on loopback, say where, serve until told to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from robot_bridge.autoeval.emulator.app import create_emulator_app
from robot_bridge.autoeval.emulator.arm import Cell
from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.listening import Address, serving

log = logging.getLogger(__name__)

GRACE_S: Final = 5  # how long a call that runs may take to end when the emulator is told to stop


def serve_emulator(
    root: Path, *, quirks: Quirks, announce: Callable[[str], None], cell_seed: int = 0, port: int = 0
) -> None:
    """Serve until SIGINT or SIGTERM; jobs that run are cut off then and run again at the next start.

    Port 0 takes a free one; `announce` is called with the base url once connections are accepted. The
    emulator calls any address that a job names, so it listens on loopback only.
    """
    address = Address(port=port)
    with address.listen() as listener:
        server = _server(create_emulator_app(root, quirks=quirks, cell_seed=cell_seed), root=root)
        announce(address.url(listener))
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
    address = Address(port=port)
    with address.listen() as listener:
        app = create_emulator_app(root, quirks=quirks, cell_seed=cell_seed, build=build)
        with serving(_server(app, root=root), listener, name="autoeval"):
            yield address.url(listener)


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
