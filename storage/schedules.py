"""Schedules: what is kept of them, and which ones somebody has to look at now.

When one is due is the daemon's business; here are rows. Whoever changes one has passed
`serialise(session, SCHEDULES)`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.canonical import as_json
from storage.errors import RowMissing
from storage.schedule_tables import ScheduleRow
from storage.states import OVER
from storage.tables import IterationRow

SCHEDULES = "schedules"  # the name under which transactions on schedules wait for each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What people ask of a schedule."""

    name: str
    enabled: bool
    trigger: dict[str, Any]
    spec: dict[str, Any]
    ends_at: datetime | None
    max_runs: int | None


def add(session: Session, wish: Wish, *, next_run_at: datetime | None, now: datetime) -> ScheduleRow:
    """Keep a new schedule.

    Raises:
        NotJson: the trigger or the spec holds something that JSON cannot.
    """
    row = ScheduleRow(version=1, runs=0, created_at=now, updated_at=now, next_run_at=next_run_at)
    _write(row, wish)
    session.add(row)
    session.flush()
    return row


def change(
    session: Session, row: ScheduleRow, wish: Wish, *, next_run_at: datetime | None, now: datetime
) -> None:
    """Make it what is asked for now; a new version.

    Raises:
        NotJson: the trigger or the spec holds something that JSON cannot.
    """
    _write(row, wish)
    row.version += 1
    row.updated_at = now
    row.next_run_at = next_run_at
    session.flush()


def wish_of(row: ScheduleRow) -> Wish:
    """What is asked of it."""
    return Wish(
        name=row.name,
        enabled=row.enabled,
        trigger=row.trigger,
        spec=row.spec,
        ends_at=row.ends_at,
        max_runs=row.max_runs,
    )


def get(session: Session, schedule_id: str) -> ScheduleRow:
    """One schedule.

    Raises:
        RowMissing: there is none with this id.
    """
    row = session.get(ScheduleRow, schedule_id, populate_existing=True)
    if row is None:
        raise RowMissing(kind="schedule", row_id=schedule_id)
    return row


def by_name(session: Session, name: str) -> ScheduleRow | None:
    """The schedule of this name."""
    return session.scalars(sa.select(ScheduleRow).where(ScheduleRow.name == name)).one_or_none()


def list_schedules(session: Session) -> list[ScheduleRow]:
    """Every schedule, by name."""
    return list(session.scalars(sa.select(ScheduleRow).order_by(ScheduleRow.name)))


def remove(session: Session, row: ScheduleRow) -> None:
    """Forget it; the iterations that it asked for stay."""
    session.delete(row)
    session.flush()


def due(session: Session, *, now: datetime) -> list[ScheduleRow]:
    """Every enabled schedule whose time has come, longest overdue first."""
    query = sa.select(ScheduleRow).where(ScheduleRow.enabled, ScheduleRow.next_run_at <= now)
    return list(session.scalars(query.order_by(ScheduleRow.next_run_at, ScheduleRow.name)))


def released(session: Session) -> list[tuple[ScheduleRow, IterationRow]]:
    """Every enabled schedule that waited for its last iteration, which is over now, and that iteration."""
    query = (
        sa.select(ScheduleRow, IterationRow)
        .join(IterationRow, IterationRow.id == ScheduleRow.last_iteration_id)
        .where(ScheduleRow.enabled, ScheduleRow.next_run_at.is_(None), IterationRow.state.in_(OVER))
        .order_by(ScheduleRow.name)
    )
    return [(row, iteration) for row, iteration in session.execute(query)]


def unfinished_iteration(session: Session, row: ScheduleRow) -> IterationRow | None:
    """Its last iteration, if that is not over."""
    if row.last_iteration_id is None:
        return None
    last = session.get(IterationRow, row.last_iteration_id)
    return None if last is None or last.state in OVER else last


def requested_under(session: Session, key: str) -> IterationRow | None:
    """The iteration that was asked for with this idempotency key."""
    return session.scalars(sa.select(IterationRow).where(IterationRow.idempotency_key == key)).one_or_none()


def _write(row: ScheduleRow, wish: Wish) -> None:
    row.name, row.enabled = wish.name, wish.enabled
    row.trigger = as_json(wish.trigger, what=f"the trigger of schedule {wish.name}")
    row.spec = as_json(wish.spec, what=f"the spec of schedule {wish.name}")
    row.ends_at, row.max_runs = wish.ends_at, wish.max_runs
