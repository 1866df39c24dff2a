"""When robots may move, by station, and when they have moved. What follows is the daemon's business."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.canonical import as_json
from storage.db import serialise
from storage.schedule_tables import StationHoursRow
from storage.tables import EpisodeRow, IterationRow, PhaseRunRow

Span = tuple[datetime, datetime]


class Collecting(NamedTuple):
    """An iteration and the phase run in which it collects."""

    iteration_id: str
    number: int
    phase_run_id: str


def put(session: Session, station_id: str, hours: Mapping[str, Any], *, now: datetime) -> StationHoursRow:
    """Set the hours of a station, in place of those before.

    Raises:
        NotJson: they hold something that JSON cannot.
    """
    row = held(session, station_id)
    if row is None:
        row = StationHoursRow(station_id=station_id, version=0)
        session.add(row)
    row.hours = as_json(hours, what=f"the hours of station {station_id}")
    row.version += 1
    row.updated_at = now
    session.flush()
    return row


def held(session: Session, station_id: str) -> StationHoursRow | None:
    """The hours as they are now, which nobody else changes until the transaction ends."""
    serialise(session, "station_hours")
    return session.get(StationHoursRow, station_id, populate_existing=True)


def get(session: Session, station_id: str) -> StationHoursRow | None:
    """The hours of a station; None where it may move whenever it wants."""
    return session.get(StationHoursRow, station_id)


def list_hours(session: Session) -> list[StationHoursRow]:
    """Every station with hours, by name."""
    return list(session.scalars(sa.select(StationHoursRow).order_by(StationHoursRow.station_id)))


def remove(session: Session, row: StationHoursRow) -> None:
    """Let the station move whenever it wants."""
    session.delete(row)
    session.flush()


def moved(session: Session, station_id: str, *, since: datetime) -> list[Span]:
    """From when to when a robot recorded episodes that were committed since, oldest first."""
    query = sa.select(EpisodeRow.started_at, EpisodeRow.ended_at).where(
        EpisodeRow.station_id == station_id, EpisodeRow.committed_at > since, EpisodeRow.origin == "collect"
    )
    return [(begun, ended) for begun, ended in session.execute(query.order_by(EpisodeRow.started_at))]


def committed(session: Session, *, since: datetime, at_most: int) -> list[datetime]:
    """When the newest collected episodes since an instant were committed, oldest first."""
    query = sa.select(EpisodeRow.committed_at).where(
        EpisodeRow.committed_at > since, EpisodeRow.origin == "collect"
    )
    return list(session.scalars(query.order_by(EpisodeRow.committed_at.desc()).limit(at_most)))[::-1]


def collected(session: Session, iteration_id: str) -> int:
    """How many episodes an iteration has recorded, those that count for nothing included."""
    query = sa.select(sa.func.count()).where(
        EpisodeRow.iteration_id == iteration_id, EpisodeRow.origin == "collect"
    )
    return session.scalars(query).one()


def last_robots(session: Session) -> list[str]:
    """The robots of the collect phase that finished last; none before the first."""
    query = sa.select(PhaseRunRow.outcome).where(
        PhaseRunRow.phase == "collect", PhaseRunRow.state == "finished", PhaseRunRow.outcome.is_not(None)
    )
    outcome = session.scalars(query.order_by(PhaseRunRow.finished_at.desc()).limit(1)).first()
    return [str(name) for name in (outcome or {}).get("robots", ())]


def collecting(session: Session) -> list[Collecting]:
    """Every iteration that collects now, whatever its lineage, in the order in which they began to."""
    query = (
        sa.select(IterationRow.id, IterationRow.number, PhaseRunRow.id)
        .join(PhaseRunRow, PhaseRunRow.iteration_id == IterationRow.id)
        .where(PhaseRunRow.phase == "collect", PhaseRunRow.state == "running")
    )
    found = session.execute(query.order_by(PhaseRunRow.started_at, PhaseRunRow.id))
    return [Collecting(*row) for row in found]
