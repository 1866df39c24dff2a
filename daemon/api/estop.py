"""The emergency stop over REST: every station of the settings at once, with or without a lease.

It runs on a thread of its own, so that it waits for no other request. What is written down is written after,
and who pressed the button does not wait for a database that is slow to take it.
"""

import logging
from functools import partial
from typing import Any

from anyio import CapacityLimiter, move_on_after, to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import OperationalError

from daemon.api.callers import ANYBODY
from daemon.api.errors import StationsNotStopped
from daemon.api.security import Actor
from daemon.api.services import Services, services_of
from daemon.estop import Stop, stop_stations
from storage import audit, events

log = logging.getLogger(__name__)
LONGEST_REASON = 500  # that the protocol takes
WRITING_S = 1.0  # how long the answer waits until the stop is written down; that goes on behind it

router = APIRouter(prefix="/v1/estop", tags=["stations"])


class StopAsked(BaseModel):
    """Why; nobody has to say it."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=400)


class StoppedStation(BaseModel):
    """A station that stands, since when, and for what reason: that of the first stop counts."""

    address: str
    since: str
    reason: str


class Stopped(BaseModel):
    items: list[StoppedStation]


@router.post("", response_model=Stopped)
async def stop(request: Request, actor: Actor, asked: StopAsked | None = None) -> dict[str, Any]:
    """Stop every robot now. Only somebody at the station can let it go on. 424: one was not stopped."""
    reason = asked.reason if asked else ""
    stops = await stop_everything(services_of(request), actor, reason=reason)
    return {"items": [{"address": s.address, "since": s.since, "reason": s.reason} for s in stops]}


async def stop_everything(services: Services, actor: str, *, reason: str) -> list[Stop]:
    """Stop every station, write it down, and give what they said.

    Raises:
        StationsNotStopped: one of them may still move.
    """
    who = "somebody" if actor == ANYBODY.name else actor
    said = f"{who}: {reason}" if reason else f"{who} pressed the emergency stop"
    do = partial(stop_stations, services.settings, reason=said[:LONGEST_REASON])
    stops = await to_thread.run_sync(do, limiter=CapacityLimiter(1))
    write = partial(_write_down, services, actor, stops, said=(who, reason))
    with move_on_after(WRITING_S):
        await to_thread.run_sync(write, limiter=CapacityLimiter(1), abandon_on_cancel=True)
    failed = {stop.address: stop.failure for stop in stops if stop.failure is not None}
    if failed:
        raise StationsNotStopped(
            failed=failed, stopped=[stop.address for stop in stops if stop.failure is None]
        )
    return stops


def _write_down(services: Services, actor: str, stops: list[Stop], *, said: tuple[str, str]) -> None:
    """Write who stopped which stations into the audit, and tell people of it; `said` is who, and why."""
    facts = {stop.address: stop.failure or "stopped" for stop in stops}
    who, reason = said
    outcome = ", ".join(f"{stop.address} {'NOT STOPPED' if stop.failure else 'stopped'}" for stop in stops)
    told = {"who": who, "reason": reason or "no reason given", "outcome": outcome, "stations": facts}
    try:
        with services.database.write() as session:
            now = services.now()
            audit.write(session, actor, action="estop", subject="stations", facts=facts, now=now)
            events.note(session, "estop_pressed", at=now, facts=told)
    except OperationalError as failed:  # the robot stands all the same
        log.warning("stop not written down reason=%s", failed.orig)
