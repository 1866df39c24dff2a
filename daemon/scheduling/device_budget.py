"""Device hours that are used up: a learning phase ends at its next report, and people are told once.

Its run is given back unfinished and its training's state stays, so the next attempt goes on from there; the
daemon asks for that once there are hours again.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from daemon.scheduling.budgets import budgets_of
from daemon.scheduling.deadlines import Report
from daemon.scheduling.hours import Closed
from daemon.scheduling.waiting import learning_waits
from daemon.settings import Settings
from storage import events
from storage.claims import ClaimedRun
from storage.db import Database
from storage.phase_runs import DEVICE_BUDGET_SPENT
from storage.tables import IterationRow, PhaseRunRow

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0  # how often a phase that reports looks what has been used
ASK_AGAIN_AFTER: Final = timedelta(minutes=1)  # a worker whose settings allow less than the daemon's


class DeviceHoursSpent(BaseException):
    """There are no hours left. Not an Exception: no phase may take it for a fault of its own."""

    def __init__(self, found: Closed) -> None:
        super().__init__(str(found))


def hours_looked_at(
    database: Database, claimed: ClaimedRun, *, settings: Settings, now: Callable[[], datetime]
) -> Callable[[], Closed | None]:
    """What says whether a run that goes on has device hours left; a database that is busy says nothing."""
    budgets = budgets_of(settings)

    def spent() -> Closed | None:
        try:
            with database.read() as session:
                return learning_waits(session, claimed.iteration_id, budgets=budgets, now=now())
        except OperationalError as failed:
            log.warning("device hours not looked at phase=%s reason=%s", claimed.phase, failed.orig)
            return None

    return spent


def budgeted(
    report: Report, *, spent: Callable[[], Closed | None], clock: Callable[[], float] = time.monotonic
) -> Report:
    """The same report, which also ends a phase once device hours are spent: at once, or while it goes on.

    Args:
        spent: what is asked at the first report, and at most once in LOOK_EVERY_S from then on.

    Raises (when it is called):
        DeviceHoursSpent: the run is to be given back.
    """
    look_at: float | None = None

    def checked(progress: float, text: str) -> None:
        nonlocal look_at
        report(progress, text)
        if look_at is not None and clock() < look_at:
            return
        look_at = clock() + LOOK_EVERY_S
        found = spent()
        if found is not None:
            raise DeviceHoursSpent(found)

    return checked


def just_given_back(run: PhaseRunRow | None, *, now: datetime) -> bool:
    """Whether a worker found no hours left a moment ago: where it allows less than we do, nobody hurries."""
    if run is None or run.error_code != DEVICE_BUDGET_SPENT or run.finished_at is None:
        return False
    return now < run.finished_at + ASK_AGAIN_AFTER


def tell_spent(
    session: Session, row: IterationRow, *, phase: str, found: Closed, now: datetime
) -> str | None:
    """Tell that a phase waits for device hours, unless that was the last thing told of them.

    Returns:
        A phrase for the log when it was told now.
    """
    told, _ = events.list_events(session, kinds=(DEVICE_BUDGET_SPENT,), iteration=row.number, limit=1)
    if told and told[0].facts.get("reason") == str(found):
        return None
    facts = {"phase": phase, "reason": str(found)}
    events.note(session, DEVICE_BUDGET_SPENT, at=now, facts=facts, iteration_id=row.id)
    return f"phase waits iteration={row.number} phase={phase} reason={found}"
