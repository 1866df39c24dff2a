"""robot-station/v1 over HTTP: where a station is put together. Its rules are in `session` and `core`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from robot_bridge.body_limit import BodyLimit
from robot_bridge.callback import PolicyLink
from robot_bridge.drivers.driver import RobotDriver
from robot_bridge.errors import RobotBridgeError
from robot_bridge.station import problems
from robot_bridge.station.arm import ArmThread
from robot_bridge.station.core import StationCore
from robot_bridge.station.doors import Doors
from robot_bridge.station.event_routes import event_routes
from robot_bridge.station.journal import Journal
from robot_bridge.station.labels import LabelDesk, label_routes
from robot_bridge.station.openapi import tell_of_refusals
from robot_bridge.station.operations import Operations
from robot_bridge.station.operator_routes import operator_routes
from robot_bridge.station.parts import Station
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.routes import station_routes, stop_route
from robot_bridge.station.session import StationSession
from robot_bridge.station.spool import Spool
from robot_bridge.station.spool_routes import spool_routes
from robot_bridge.station.tokens import TokenFile

log = logging.getLogger(__name__)

TICK_S: Final = 0.05  # how often the dead-man and the chores are looked at
AFTER_TROUBLE_S: Final = 1.0  # before the next look, when the disk took nothing


def utc_now() -> datetime:
    """The wall clock that manifests are stamped with."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a test puts in place of the real ones: monotonic seconds, the wall clock, the way to a policy."""

    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = utc_now
    connect: Callable[[str], PolicyLink] | None = None


def create_station_app(
    driver: RobotDriver,
    spool: Path,
    *,
    station_id: str,
    policy: StationPolicy | None = None,
    tokens: TokenFile | None = None,
    around: Surroundings | None = None,
) -> FastAPI:
    """A station around one driver, with its files in the folder `spool`.

    The driver's methods are called from one thread of the station's own, which is not the one that made it;
    it is closed when the app shuts down. Without `tokens` everybody may drive, and nobody may operate.
    `app.state.session` is the session behind it.

    Raises:
        SpoolBusy: another station has this folder.
    """
    around, policy = around or Surroundings(), policy or StationPolicy()
    station = _furnished(spool, station_id=station_id, policy=policy, around=around)
    session = StationSession(ArmThread(driver), station, connect=around.connect or policy.connect)
    app = FastAPI(
        title="robot-station", version="1", lifespan=_watched(session), docs_url=None, redoc_url=None
    )
    app.state.session = session
    app.include_router(stop_route(session))
    app.include_router(station_routes(session))
    app.include_router(spool_routes(session))
    app.include_router(operator_routes(Operations(session)))
    app.include_router(event_routes(station.journal))
    desk = LabelDesk(spool, now=around.now, journal=station.journal)
    app.include_router(label_routes(desk, station.spool))
    app.add_middleware(BodyLimit, refuse=problems.too_large)
    app.add_middleware(Doors, tokens=tokens)
    problems.install(app)
    tell_of_refusals(app)
    return app


def _furnished(root: Path, *, station_id: str, policy: StationPolicy, around: Surroundings) -> Station:
    """Take the folder, open the journal, and tell of the episode that a crash left behind."""
    spool = Spool(root)
    journal = Journal(root, now=around.now)
    if spool.buried is not None:
        journal.append("episode_lost", episode_id=spool.buried)
    return Station(
        station_id=station_id,
        spool=spool,
        journal=journal,
        clock=around.clock,
        now=around.now,
        policy=policy,
    )


def _watched(session: StationSession) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The app's life: a thread that ends what must end, and at last everything let go of in order."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stopped = threading.Event()
        watch = threading.Thread(target=_tick_until, args=(session, stopped), name="watch", daemon=True)
        watch.start()
        yield
        stopped.set()
        session.woken.set()
        watch.join()
        session.close()

    return lifespan


def _tick_until(core: StationCore, stopped: threading.Event) -> None:
    """Look after a station many times a second, and at once when somebody pressed the emergency stop.

    What goes wrong then goes wrong again until somebody makes room: it is logged once.
    """
    trouble = ""
    while not stopped.is_set():
        core.woken.wait(AFTER_TROUBLE_S if trouble else TICK_S)
        core.woken.clear()
        try:
            core.tick()
        except (RobotBridgeError, OSError) as error:  # the watch itself must never end
            if str(error) != trouble:
                log.error("station not looked after error=%s", error)
            trouble = str(error)
        else:
            trouble = ""
