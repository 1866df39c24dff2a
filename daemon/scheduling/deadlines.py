"""Deadlines of phases: an attempt that takes too long ends at its next report, and is not tried again.

A phase that reports no more is ended by the heartbeat (`stall_after_s`), deadline or not.
"""

import time
from collections.abc import Callable

from daemon.scheduling.errors import PhaseOverdue
from daemon.spec import IterationSpec

Report = Callable[[float, str], None]


def deadline_of(spec: IterationSpec, phase: str) -> float | None:
    """How many seconds an attempt at a phase may take; None means as long as it needs."""
    limit_s: float | None = getattr(spec.deadlines, f"{phase}_s", None)
    return limit_s


def overdue(*, took_s: float, limit_s: float | None) -> bool:
    """Whether an attempt has taken longer than it may."""
    return limit_s is not None and took_s > limit_s


def within(
    report: Report, *, phase: str, limit_s: float | None, clock: Callable[[], float] = time.monotonic
) -> Report:
    """The same report, which also ends a phase that is late; the time counts from now.

    Raises (when it is called):
        PhaseOverdue: the phase ran past its deadline.
    """
    begun = clock()

    def checked(progress: float, text: str) -> None:
        report(progress, text)
        if limit_s is not None and overdue(took_s=clock() - begun, limit_s=limit_s):
            raise PhaseOverdue(phase=phase, limit_s=limit_s)

    return checked
