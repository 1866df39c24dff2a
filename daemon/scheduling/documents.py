"""A schedule as people write it and read it: what is asked for, what it became, when it is due next."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import AwareDatetime, Field, ValidationError
from sqlalchemy.orm import Session

from daemon.errors import PageNotFound, RequestInvalid
from daemon.scheduling.due import has_ended
from daemon.scheduling.errors import ScheduleNameTaken
from daemon.scheduling.triggers import (
    AfterPrevious,
    CronTimes,
    Interval,
    Trigger,
    first_due,
    next_due,
    read_trigger,
)
from daemon.spec import IterationSpec, SpecModel, dotted
from storage import schedules
from storage.canonical import as_json
from storage.db import serialise
from storage.errors import RowMissing
from storage.schedule_tables import ScheduleRow
from storage.schedules import Wish
from storage.tables import IterationRow

TIMES_SHOWN = 5

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$", description="unique")]
Enabled = Annotated[bool, Field(strict=True)]
Moment = Annotated[
    AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC))
]
MaxRuns = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]


class ScheduleWish(SpecModel):
    """A schedule as it is asked for."""

    name: Name
    enabled: Enabled = True
    trigger: Trigger
    spec: IterationSpec = Field(
        default=IterationSpec(), description="of every iteration; the n-th has the seed of the spec plus n"
    )
    ends_at: Moment | None = Field(default=None, description="nothing is due after it")
    max_runs: MaxRuns | None = Field(default=None, description="iterations in all")

    def wish(self) -> Wish:
        """What is stored of it."""
        return Wish(
            name=self.name,
            enabled=self.enabled,
            trigger=self.trigger.model_dump(mode="json"),
            spec=self.spec.document(),
            ends_at=self.ends_at,
            max_runs=self.max_runs,
        )


class ScheduleChange(SpecModel):
    """What is to be different; a field that is not sent stays. The spec is replaced as a whole."""

    name: Name | None = None
    enabled: Enabled | None = None
    trigger: Trigger | None = None
    spec: IterationSpec | None = None
    ends_at: Moment | None = None
    max_runs: MaxRuns | None = None


def find_schedule(session: Session, schedule_id: str) -> ScheduleRow:
    """One schedule, held until the transaction ends.

    Raises:
        PageNotFound: there is none with this id.
    """
    serialise(session, schedules.SCHEDULES)
    return read_schedule(session, schedule_id)


def read_schedule(session: Session, schedule_id: str) -> ScheduleRow:
    """One schedule, for reading.

    Raises:
        PageNotFound: there is none with this id.
    """
    try:
        return schedules.get(session, schedule_id)
    except RowMissing:
        raise PageNotFound(what="schedule", key=schedule_id) from None


def add_schedule(session: Session, asked: ScheduleWish, *, now: datetime) -> tuple[ScheduleRow, bool]:
    """Keep a schedule; the same again finds it.

    Raises:
        ScheduleNameTaken: another one has its name.
    """
    serialise(session, schedules.SCHEDULES)
    before, wish = schedules.by_name(session, asked.name), asked.wish()
    if before is not None:
        if _comparable(schedules.wish_of(before)) != _comparable(wish):
            raise ScheduleNameTaken(name=asked.name)
        return before, False
    first = first_due(asked.trigger, now=now) if asked.enabled else None
    return schedules.add(session, wish, next_run_at=first, now=now), True


def change_schedule(session: Session, row: ScheduleRow, change: ScheduleChange, *, now: datetime) -> None:
    """Make a schedule what is asked for now; its times begin anew where they, or its being enabled, changed.

    Raises:
        RequestInvalid: what it would become cannot be.
        ScheduleNameTaken: another one has its new name.
    """
    old = schedules.wish_of(row)
    asked = _changed(old, change)
    other = schedules.by_name(session, asked.name)
    if other is not None and other.id != row.id:
        raise ScheduleNameTaken(name=asked.name)
    new = asked.wish()
    next_run_at = row.next_run_at
    if not new.enabled:
        next_run_at = None
    elif not old.enabled or new.trigger != old.trigger:
        waits = isinstance(asked.trigger, AfterPrevious) and row.last_iteration_id is not None
        next_run_at = (
            None if waits else first_due(asked.trigger, now=now)
        )  # it goes on after its last iteration
    schedules.change(session, row, new, next_run_at=next_run_at, now=now)


def _changed(old: Wish, change: ScheduleChange) -> ScheduleWish:
    document = {
        "name": old.name,
        "enabled": old.enabled,
        "trigger": old.trigger,
        "spec": old.spec,
        "ends_at": old.ends_at,
        "max_runs": old.max_runs,
    }
    sent = {name: getattr(change, name) for name in change.model_fields_set}
    try:
        return ScheduleWish.model_validate({**document, **sent})
    except ValidationError as refused:
        faults = {dotted(error["loc"]): str(error["msg"]) for error in refused.errors()}
        raise RequestInvalid(faults=faults) from None


def schedule_record(session: Session, row: ScheduleRow) -> dict[str, Any]:
    """Everything that is known of a schedule."""
    return {
        "id": row.id,
        "name": row.name,
        "enabled": row.enabled,
        "trigger": row.trigger,
        "spec": row.spec,
        "ends_at": row.ends_at,
        "max_runs": row.max_runs,
        "version": row.version,
        "runs": row.runs,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "next_run_at": row.next_run_at,
        "next_runs": next_runs(row),
        "last_run_at": row.last_run_at,
        "last_iteration": _number(session, row.last_iteration_id),
        "last_result": row.last_result,
    }


def next_runs(row: ScheduleRow) -> list[datetime]:
    """The next times at which it is due, as far as they are known; five at most."""
    if not row.enabled or row.next_run_at is None or has_ended(row, row.next_run_at):
        return []
    trigger = read_trigger(row.trigger)
    if isinstance(trigger, AfterPrevious):
        return [row.next_run_at]
    left = TIMES_SHOWN if row.max_runs is None else min(TIMES_SHOWN, row.max_runs - row.runs)
    return list(_following(trigger, row.next_run_at, count=left, ends_at=row.ends_at))


def _following(
    trigger: CronTimes | Interval, first: datetime, *, count: int, ends_at: datetime | None
) -> list[datetime]:
    found: list[datetime] = []
    due = first
    while len(found) < count and (ends_at is None or due <= ends_at):
        found.append(due)
        after = next_due(trigger, before=due, now=due)
        if after is None:
            break
        due = after
    return found


def _comparable(wish: Wish) -> Mapping[str, Any]:
    return {
        "enabled": wish.enabled,
        "trigger": as_json(wish.trigger, what="a trigger"),
        "spec": as_json(wish.spec, what="a spec"),
        "ends_at": wish.ends_at,
        "max_runs": wish.max_runs,
    }


def _number(session: Session, iteration_id: str | None) -> int | None:
    return session.scalar(sa.select(IterationRow.number).where(IterationRow.id == iteration_id))
