"""robot-station/v1 over HTTP: where a station is put together. Its rules are in `session`."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from robot_bridge.drivers.driver import RobotDriver
from robot_bridge.station import problems
from robot_bridge.station.arm import ArmThread
from robot_bridge.station.body_limit import BodyLimit
from robot_bridge.station.routes import station_routes
from robot_bridge.station.session import SPOOL_LIMIT_BYTES, StationSession
from robot_bridge.station.spool import Spool

SETTLE_EVERY_S: Final = 1.0  # how soon after its lease ran out an abandoned episode is put into the spool


def utc_now() -> datetime:
    """The wall clock that manifests are stamped with."""
    return datetime.now(UTC)


def create_station_app(
    driver: RobotDriver,
    spool: Path,
    *,
    station_id: str,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = utc_now,
    spool_limit: int = SPOOL_LIMIT_BYTES,
) -> FastAPI:
    """A station around one driver, with its files in the folder `spool`.

    The driver's methods are called from one thread of the station's own, which is not the one that made it;
    it is closed when the app shuts down. `clock` is monotonic seconds for leases, `now` the wall clock.

    Raises:
        SpoolBusy: another station has this folder.
    """
    session = StationSession(
        ArmThread(driver),
        Spool(spool),
        station_id=station_id,
        clock=clock,
        now=now,
        spool_limit=spool_limit,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stopped = threading.Event()
        watch = threading.Thread(target=_settle_until, args=(session, stopped), name="settle", daemon=True)
        watch.start()
        yield
        stopped.set()
        watch.join()
        session.close()

    app = FastAPI(title="robot-station", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(station_routes(session))
    app.add_middleware(BodyLimit)
    problems.install(app)
    return app


def _settle_until(session: StationSession, stopped: threading.Event) -> None:
    while not stopped.wait(SETTLE_EVERY_S):
        session.settle()
