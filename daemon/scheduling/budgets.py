"""What may be used up, as arithmetic: robot episodes of any twenty-four hours, and of an iteration."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from daemon.scheduling.hours import Closed

BUDGET_DAY = timedelta(days=1)  # any twenty-four hours: a lab's night has two dates


def day_spent(committed: Sequence[datetime], *, most: int | None, now: datetime) -> Closed | None:
    """Whether the episodes of the last day are all that a day may have.

    Args:
        committed: when episodes were recorded, oldest first.
        most: in any twenty-four hours; None means as many as one likes.
    """
    recent = [at for at in committed if at > now - BUDGET_DAY]
    if most is None or len(recent) < most:
        return None
    return Closed(
        why=f"{most} robot episodes a day are recorded", until=recent[len(recent) - most] + BUDGET_DAY
    )


def iteration_spent(recorded: int, *, most: int | None) -> Closed | None:
    """Whether an iteration has recorded all the episodes it may; it does not wait, it goes on without."""
    if most is None or recorded < most:
        return None
    return Closed(why=f"{most} robot episodes of this iteration are recorded", until=None)


def room(recorded: int, *, most: int | None) -> int | None:
    """How many more episodes a budget has; None means as many as one likes."""
    return None if most is None else max(0, most - recorded)
