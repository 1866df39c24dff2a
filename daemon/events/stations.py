"""Tells that a station needs somebody at the robot, and that it goes on: each once, whoever sees it first.

A collect phase looks at the robots it uses, the daemon at all of them, also while nobody collects. What was
told last of a station is in the events, so neither of them repeats the other, nor itself after a restart.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from sqlalchemy.orm import Session

from daemon.station_watch import ANSWER_S, StationWatch
from robot_bridge.description import StatusAnswer
from storage import events
from storage.db import Database, serialise

LOOK_EVERY_S = 5.0
PATIENCE_S = ANSWER_S + 1.0  # nobody looks at a page meanwhile, and a slow station is told of as well

NEEDS_HUMAN, GOES_ON = "station_needs_human", "station_goes_on"


def needs_human(status: StatusAnswer) -> str | None:
    """Why somebody has to go to the robot; None while nobody has to."""
    if status.state == "WAITING_HUMAN":
        return status.waiting_for or "it waits for somebody"
    if status.state == "ESTOPPED":
        return f"its emergency stop is pressed ({status.estop_reason or 'nobody said why'})"
    if status.state == "FAULT":
        ill = [f"motor {motor.name} reports {motor.error}" for motor in status.motors if motor.error]
        return ", ".join(ill) or "its arm has a fault, which the station's log names"
    return None


class StationsTold:
    """What people are told of stations, by address. Threads and workers may each have one."""

    def __init__(self, database: Database, *, iteration_id: str | None = None) -> None:
        self._database, self._iteration_id = database, iteration_id

    def tell(self, address: str, reason: str | None, *, name: Callable[[], str], now: datetime) -> str | None:
        """Tell that a station needs a human, or with None as the reason that it goes on, if that is new.

        Args:
            name: what people call the station; asked for only when there is something to tell.

        Returns:
            The kind of the event that was written now.
        """
        with self._database.read() as session:
            if _is_told(session, address, reason):
                return None
        facts = {"station": name(), "address": address, **({} if reason is None else {"reason": reason})}
        kind = GOES_ON if reason is None else NEEDS_HUMAN
        with self._database.write() as session:
            serialise(session, f"station_told:{address}")
            if _is_told(session, address, reason):  # somebody else was quicker
                return None
            events.note(session, kind, at=now, facts=facts, iteration_id=self._iteration_id)
        return kind


def look_at_stations(now: datetime, *, database: Database, stations: StationWatch) -> str | None:
    """Tell of every station that answers; one that does not says neither that it needs anybody nor not."""
    told = StationsTold(database)
    said = []
    for standing in stations.look(patience_s=PATIENCE_S):
        if standing.status is None:
            continue
        address, reason = standing.address, needs_human(standing.status)
        kind = told.tell(address, reason, name=partial(stations.name_of, address), now=now)
        if kind is not None:
            said.append(f"{kind} url={address}" + (f" reason={reason!r}" if reason else ""))
    return "; ".join(said) or None


def _is_told(session: Session, address: str, reason: str | None) -> bool:
    last = events.newest_of(session, (NEEDS_HUMAN, GOES_ON), facts={"address": address})
    needed = last is not None and last.kind == NEEDS_HUMAN
    return needed == (reason is not None)
