"""What may be used up, as arithmetic: robot episodes and device hours, of a day and of an iteration.

A day of episodes is any twenty-four hours. A day of device hours is a date (UTC), as the judges' is: in a
window that moves along, a phase that is stopped could go on at once, for as long as it takes to notice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from daemon.scheduling.hours import Closed
from daemon.settings import Settings

BUDGET_DAY = timedelta(days=1)  # any twenty-four hours: a lab's night has two dates
HOUR_S = 3600.0

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """What all iterations of an installation may use; None means as much as they like."""

    episodes_per_day: int | None = None
    device_hours_per_day: float | None = None
    device_hours_per_iteration: float | None = None


UNLIMITED = Budgets()


def budgets_of(settings: Settings) -> Budgets:
    """The budgets that the settings name."""
    return Budgets(
        episodes_per_day=settings.robot_episodes_per_day,
        device_hours_per_day=settings.device_hours_per_day,
        device_hours_per_iteration=settings.device_hours_per_iteration,
    )


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
        why=f"{most} robot episodes a day are recorded",
        until=recent[len(recent) - most] + BUDGET_DAY,
        spent="day",
    )


def iteration_spent(recorded: int, *, most: int | None) -> Closed | None:
    """Whether an iteration has recorded all the episodes it may; it does not wait, it goes on without."""
    if most is None or recorded < most:
        return None
    return Closed(why=f"{most} robot episodes of this iteration are recorded", until=None, spent="iteration")


def room(recorded: int, *, most: int | None) -> int | None:
    """How many more episodes a budget has; None means as many as one likes."""
    return None if most is None else max(0, most - recorded)


def midnight(now: datetime) -> datetime:
    """When the day (UTC) began."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def used_hours(busy: Sequence[Span], *, since: datetime | None = None) -> float:
    """How many hours the spans have from an instant on; where they overlap, each counts."""
    begun = [(begun if since is None else max(begun, since), ended) for begun, ended in busy]
    return sum(max(0.0, (ended - begun).total_seconds()) for begun, ended in begun) / HOUR_S


def device_day_spent(busy: Sequence[Span], *, most: float | None, now: datetime) -> Closed | None:
    """Whether learning has used all device hours of today; of what began yesterday, today's part counts."""
    today = midnight(now)
    if most is None or used_hours(busy, since=today) < most:
        return None
    return Closed(why=f"{most:g} device hours of today are used", until=today + timedelta(days=1))


def device_iteration_spent(busy: Sequence[Span], *, most: float | None) -> Closed | None:
    """Whether an iteration has used all its device hours; no day gives it more."""
    if most is None or used_hours(busy) < most:
        return None
    why = (
        f"{most:g} device hours of this iteration are used: waiting for a larger "
        "GYMNASTD_DEVICE_HOURS_PER_ITERATION"
    )
    return Closed(why=why, until=None)
