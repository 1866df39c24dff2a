"""Asks for the iterations of schedules that are due.

The table `schedules` is the only place that knows when one is due. APScheduler computes the times
(`triggers.py`) and wakes this module every second; its own SQLAlchemy job store is not used: it pickles jobs,
which nothing here does, and it would be a second truth beside the table that people change over REST.

The iteration is asked for in the transaction in which the schedule's row moves on, under a key made of the
schedule and the due time: a daemon that is killed at any point asks once. Due times that were missed count as
one.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from daemon.errors import SpecInvalid
from daemon.scheduling.errors import ScheduleBusy
from daemon.scheduling.triggers import AfterPrevious, next_due, read_trigger
from daemon.spec import parse_spec
from storage import audit, iterations, schedules
from storage.db import serialise
from storage.errors import IdempotencyMismatch
from storage.schedule_tables import ScheduleRow
from storage.tables import IterationRow

FAILED_PAUSE_S = 600.0  # after an iteration that failed: the next one would fail as soon as it did
SEEDS = 2**31  # specs have seeds below it

REQUESTED, SKIPPED, REFUSED, ENDED = "requested", "skipped", "refused", "ended"


def anything_due(session: Session, *, now: datetime) -> bool:
    """Whether `run_due` would do something; it needs no write."""
    return bool(schedules.due(session, now=now) or schedules.released(session))


def run_due(session: Session, *, now: datetime) -> list[str]:
    """Ask for what is due, and move every due schedule on to its next time.

    Returns:
        What was done, a phrase for the log each.
    """
    serialise(session, schedules.SCHEDULES)
    for row, iteration in schedules.released(session):
        row.next_run_at = _after(row, iteration, now=now)
    session.flush()
    return [_run(session, row, now=now) for row in schedules.due(session, now=now)]


def run_now(
    session: Session, row: ScheduleRow, *, key: str, now: datetime, actor: str | None = None
) -> tuple[IterationRow, bool]:
    """Ask for one iteration of a schedule besides its times, paused or not; the same key asks once.

    Args:
        actor: who asks; None: the schedule itself.

    Returns:
        The iteration, and whether it is new.

    Raises:
        ScheduleBusy: its last iteration is not over.
        SpecInvalid: this release refuses its spec.
    """
    serialise(session, schedules.SCHEDULES)
    key = f"schedule:{row.id}:now:{key}"
    before = schedules.requested_under(session, key)
    if before is not None:
        return before, False
    busy = schedules.unfinished_iteration(session, row)
    if busy is not None:
        raise ScheduleBusy(name=row.name, number=busy.number)
    return _request(session, row, key=key, actor=actor or by_itself(row), now=now), True


def _after(row: ScheduleRow, iteration: IterationRow, *, now: datetime) -> datetime:
    """When the next iteration after this one is due."""
    trigger = read_trigger(row.trigger)
    pause_s = trigger.pause_s if isinstance(trigger, AfterPrevious) else 0.0
    if iteration.state == "failed":
        pause_s = max(pause_s, FAILED_PAUSE_S)
    return (iteration.finished_at or now) + timedelta(seconds=pause_s)


def _run(session: Session, row: ScheduleRow, *, now: datetime) -> str:
    due = row.next_run_at or now
    if has_ended(row, due):
        _end(row, now=now)
        return f"schedule ended schedule={row.name}"
    result = _try(session, row, due=due, now=now)
    if result["outcome"] == REQUESTED:
        row.last_run_at = now
    row.next_run_at, missed = _onward(row, due=due, now=now, refused=result["outcome"] == REFUSED)
    row.last_result = {"at": now.isoformat(), "due": due.isoformat(), "missed_some": missed, **result}
    session.flush()
    return f"schedule due schedule={row.name} outcome={result['outcome']}"


def _onward(row: ScheduleRow, *, due: datetime, now: datetime, refused: bool) -> tuple[datetime | None, bool]:
    """When it is due next (None: after its iteration, or never), and whether due times passed unheeded."""
    trigger = read_trigger(row.trigger)
    if isinstance(trigger, AfterPrevious):
        return (now + timedelta(seconds=FAILED_PAUSE_S) if refused else None), False
    following = next_due(trigger, before=due, now=due)
    coming = next_due(trigger, before=due, now=now)
    if coming is None or has_ended(row, coming):
        row.enabled, coming = False, None
    return coming, following is not None and following <= now


def _try(session: Session, row: ScheduleRow, *, due: datetime, now: datetime) -> dict[str, Any]:
    """Ask for the iteration, unless the one before is not over; what came of it."""
    busy = schedules.unfinished_iteration(session, row)
    if busy is not None:
        return {
            "outcome": SKIPPED,
            "iteration": busy.number,
            "reason": f"iteration {busy.number} is not over",
        }
    try:
        key = f"schedule:{row.id}:{due.isoformat()}"
        iteration = _request(session, row, key=key, actor=by_itself(row), now=now)
    except (SpecInvalid, IdempotencyMismatch) as refused:
        return {"outcome": REFUSED, "iteration": None, "reason": str(refused)}
    return {"outcome": REQUESTED, "iteration": iteration.number, "reason": None}


def _request(session: Session, row: ScheduleRow, *, key: str, actor: str, now: datetime) -> IterationRow:
    """One more iteration of a schedule; each has a seed of its own, counted up from the spec's."""
    spec = parse_spec(row.spec)
    seeded = spec.model_copy(update={"seed": (spec.seed + row.runs) % SEEDS})
    iteration, _ = iterations.request_iteration(session, spec=seeded.document(), idempotency_key=key, now=now)
    row.runs += 1
    row.last_iteration_id = iteration.id
    audit.write(
        session,
        actor,
        action="iteration_requested",
        subject=f"iteration {iteration.number}",
        facts={"spec_digest": iteration.spec_digest, "idempotency_key": key, "schedule": row.name},
        now=now,
    )
    session.flush()
    return iteration


def by_itself(row: ScheduleRow) -> str:
    """Who asks where nobody pressed anything."""
    return f"schedule {row.name}"


def has_ended(row: ScheduleRow, due: datetime) -> bool:
    """Whether a schedule's limits leave no run at this time."""
    return (row.ends_at is not None and due > row.ends_at) or (
        row.max_runs is not None and row.runs >= row.max_runs
    )


def _end(row: ScheduleRow, *, now: datetime) -> None:
    """It asks for nothing any more, until somebody raises its limits and enables it."""
    row.enabled, row.next_run_at = False, None
    ended = {"outcome": ENDED, "iteration": None, "reason": "its runs are done, or its time is over"}
    row.last_result = {"at": now.isoformat(), "due": None, "missed_some": False, **ended}
