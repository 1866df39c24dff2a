"""Deadlines of phases: one that takes too long ends at its next report, and is not tried again.

All attempts at a phase count together, from when each began to when it ended, so a worker that dies or is
stopped again and again begins no new clock; what people forgive with a retry does. Time in which nobody runs
the phase does not count: paused, waiting for a worker, for device hours, or for room on a disk.

Every phase has a deadline. It ends nothing that goes on as it should, but what would otherwise wait for ever:

* collect, thirty days: a robot's hours are weekly and its episodes a budget of days, so one phase may well
  wait through several weeks; one that has not ended in a month waits for something that does not come.
* finetune_world_model and update_policy, seven days of computing each: waiting for a judge is all that they
  wait for, and a training that computes for longer than a week is asked for with a deadline of its own.

A phase that reports no more is ended by the heartbeat (`stall_after_s`), deadline or not.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from daemon.scheduling.errors import PhaseOverdue
from daemon.spec import IterationSpec
from storage import attempts
from storage.claims import ClaimedRun
from storage.db import Database

Report = Callable[[float, str], None]

DAY_S: Final = 86_400.0
DEFAULT_S: Final[Mapping[str, float]] = {
    "collect": 30 * DAY_S,
    "finetune_world_model": 7 * DAY_S,
    "update_policy": 7 * DAY_S,
}


def deadline_of(spec: IterationSpec, phase: str) -> float | None:
    """How many seconds all attempts at a phase may take; None for a phase that is none of ours."""
    limit_s: float | None = getattr(spec.deadlines, f"{phase}_s", None)
    return DEFAULT_S.get(phase) if limit_s is None else limit_s


def overdue(*, took_s: float, limit_s: float | None) -> bool:
    """Whether attempts have taken longer than they may."""
    return limit_s is not None and took_s > limit_s


def in_time(report: Report, claimed: ClaimedRun, *, spec: IterationSpec, database: Database) -> Report:
    """The report of a run that goes on, which also ends it once all attempts at its phase took too long."""
    with database.read() as session:
        used_s = attempts.used_s(session, claimed)
    return within(report, phase=claimed.phase, limit_s=deadline_of(spec, claimed.phase), used_s=used_s)


def within(
    report: Report,
    *,
    phase: str,
    limit_s: float | None,
    used_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """The same report, which also ends a phase that is late; the time counts from now.

    Args:
        used_s: seconds that earlier attempts took.

    Raises (when it is called):
        PhaseOverdue: the phase ran past its deadline.
    """
    begun = clock() - used_s

    def checked(progress: float, text: str) -> None:
        report(progress, text)
        if limit_s is not None and overdue(took_s=clock() - begun, limit_s=limit_s):
            raise PhaseOverdue(phase=phase, limit_s=limit_s)

    return checked
