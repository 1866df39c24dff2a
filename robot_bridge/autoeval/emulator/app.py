"""The emulator as one ASGI app: job API, robots, live view and the dataset's hub under one address."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware

from robot_bridge.autoeval.emulator.arm import Cell
from robot_bridge.autoeval.emulator.hub import Hub, hub_routes
from robot_bridge.autoeval.emulator.job_routes import KeyCheck, job_routes
from robot_bridge.autoeval.emulator.jobs import JobBook
from robot_bridge.autoeval.emulator.live import LiveView
from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.autoeval.emulator.robot_routes import robot_routes
from robot_bridge.autoeval.emulator.scheduler import Scheduler
from robot_bridge.drivers.cell import cell_variant
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX

ADMIN_KEY_FILE = "admin_api_key.txt"


def create_emulator_app(
    root: Path, *, quirks: Quirks, cell_seed: int = 0, build: Callable[[], Cell] | None = None
) -> FastAPI:
    """AutoEval over simulated cells; its scheduler runs while the app's lifespan does.

    Args:
        root: database, admin key and recordings; a later start goes on with them.
        cell_seed: which simulated cell both robots are.
        build: another kind of cell than `MujocoWidowX`, for tests.
    """
    temporary = root / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    book, live = JobBook(root / "database.db"), LiveView()
    scheduler = Scheduler(
        book, live=live, temporary=temporary, quirks=quirks, build=build or _cells(cell_seed, quirks)
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        scheduler.start()
        try:
            yield
        finally:
            scheduler.stop()
            book.close()

    app = FastAPI(title="AutoEval emulator", lifespan=lifespan)
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
    admin = _key_check(root / ADMIN_KEY_FILE)
    app.include_router(job_routes(book, scheduler, admin=admin))
    app.include_router(robot_routes(book, live, admin=admin))
    app.include_router(hub_routes(Hub(temporary, quirks=quirks), page=quirks.hub_page))
    return app


def _cells(seed: int, quirks: Quirks) -> Callable[[], Cell]:
    return lambda: MujocoWidowX(cell=cell_variant(seed), renderer=quirks.renderer)


def _key_check(file: Path) -> KeyCheck:
    """A check against the key in a file, which is made where there is none."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32))
    key = file.read_text().strip()

    def check(request: Request) -> None:
        given = request.headers.get("X-API-Key")
        if given is None:
            raise HTTPException(401, "Not authenticated")
        if not secrets.compare_digest(given.encode(), key.encode()):
            raise HTTPException(403, "Invalid API key. You are not authorized to perform this action.")

    return check
