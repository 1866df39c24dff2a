"""When a schedule is due, as data, and the instants that follow from it.

Cron expressions are computed by APScheduler, in the zone that they name. Two of its habits are not cron's and
are put right here: it counts weekdays from Monday, and it runs a nightly job twice in the night that has an
hour twice.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger
from pydantic import Field, TypeAdapter, field_validator, model_validator

from daemon.spec import SpecModel

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")  # cron's 0 to 7
NUMBERS = re.compile(r"(\*|\d{1,2}(-\d{1,2})?)(/\d{1,2})?")
MONTHS = re.compile(NUMBERS.pattern + r"|[a-z]{3}(-[a-z]{3})?")
ITEM = re.compile(r"(?P<first>\*|[a-z]{3}|[0-7])(-(?P<last>[a-z]{3}|[0-7]))?(/(?P<step>[1-7]))?")
INSTANT = timedelta(
    microseconds=1
)  # the resolution of a datetime: due times are after an instant, never at it
LONGEST_S = 366 * 86_400.0


def known_zone(name: str) -> str:
    """Check a time zone.

    Raises:
        ValueError: this machine knows none of that name.
    """
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found, not a name, a folder of zones
        raise ValueError("expected a time zone like Europe/Berlin or UTC") from None
    return name


class CronTimes(SpecModel):
    """Minute, hour, day of month, month, day of week. Weekdays and days of a month are not mixed."""

    kind: Literal["cron"] = "cron"
    expression: Annotated[str, Field(min_length=9, max_length=200)]
    timezone: Annotated[str, Field(max_length=100)] = "UTC"

    _zone_exists = field_validator("timezone")(known_zone)

    @model_validator(mode="after")
    def _is_due_some_day(self) -> Self:
        if cron_due(self, datetime(2026, 1, 1, tzinfo=UTC)) is None:
            raise ValueError(f"{self.expression} never comes")
        return self


class Interval(SpecModel):
    """Every so many seconds, from when it was set."""

    kind: Literal["interval"] = "interval"
    seconds: Annotated[float, Field(ge=1.0, le=LONGEST_S)]


class AfterPrevious(SpecModel):
    """As soon as the schedule's iteration before is over, after a pause; the first one at once."""

    kind: Literal["after_previous"] = "after_previous"
    pause_s: Annotated[float, Field(ge=0.0, le=LONGEST_S)] = 0.0


Trigger = Annotated[CronTimes | Interval | AfterPrevious, Field(discriminator="kind")]


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[CronTimes | Interval | AfterPrevious]:
    return TypeAdapter(Trigger)


def read_trigger(document: object) -> CronTimes | Interval | AfterPrevious:
    """A trigger that was checked when it was stored."""
    return _adapter().validate_python(document)


def first_due(trigger: CronTimes | Interval | AfterPrevious, *, now: datetime) -> datetime | None:
    """When a schedule that is set now is due first; None for a cron expression that never comes again."""
    if isinstance(trigger, AfterPrevious):
        return now
    return next_due(trigger, before=now, now=now)


def next_due(trigger: CronTimes | Interval, *, before: datetime, now: datetime) -> datetime | None:
    """The first due time after now; what was missed since `before`, the last due time, is not made up for."""
    if isinstance(trigger, CronTimes):
        return cron_due(trigger, now)
    passed = max(0, math.floor((now - before).total_seconds() / trigger.seconds))
    due = before + timedelta(seconds=trigger.seconds * passed)
    return due if due > now else before + timedelta(seconds=trigger.seconds * (passed + 1))


def cron_due(times: CronTimes, after: datetime) -> datetime | None:
    """The first time after an instant, in UTC.

    In the hour that is left out in spring, a job runs as much later as was left out; in the hour that comes
    twice in autumn it runs once, unless its hours begin with an asterisk.
    """
    trigger = _cron(times.expression, times.timezone)
    by_the_clock = not times.expression.split()[1].startswith("*")
    due = trigger.get_next_fire_time(None, after + INSTANT)
    while due is not None and by_the_clock and _came_before(due):
        due = trigger.get_next_fire_time(None, due.astimezone(UTC) + INSTANT)
    return None if due is None else due.astimezone(UTC)


def _came_before(due: datetime) -> bool:
    """Whether a clock on the wall has shown this time an hour ago."""
    return due.fold == 1 and due.replace(fold=0).utcoffset() != due.utcoffset()


def _cron(expression: str, timezone: str) -> CronTrigger:
    fields = expression.lower().split()
    if len(fields) != 5:
        raise ValueError(f"expected five fields (minute hour day month weekday), found {len(fields)}")
    for name, field in zip(("minute", "hour", "day", "month"), fields, strict=False):
        shape = MONTHS if name == "month" else NUMBERS
        if not all(shape.fullmatch(item) for item in field.split(",")):
            raise ValueError(f"{field} is no {name} of a cron expression")
    if fields[2] != "*" and fields[4] != "*":
        raise ValueError("give days of the month or weekdays: programs differ in what both mean")
    fields[4] = "*" if fields[4] == "*" else ",".join(_weekdays(fields[4]))
    return CronTrigger.from_crontab(" ".join(fields), ZoneInfo(timezone))


def _weekdays(field: str) -> list[str]:
    """Cron's weekdays by name, each written out."""
    found: list[str] = []
    for item in field.split(","):
        parts = ITEM.fullmatch(item)
        if parts is None:
            raise ValueError(f"{item} is no weekday of a cron expression")
        first, last = _weekday(parts["first"]), _weekday(parts["last"] or parts["first"])
        if parts["first"] == "*":
            first, last = 0, 6
        elif parts["last"] is not None and last < first:
            last += 7  # from Friday to Monday
        found += [WEEKDAYS[day % 7] for day in range(first, last + 1, int(parts["step"] or 1))]
    return list(dict.fromkeys(found))


def _weekday(name: str) -> int:
    if name.isdigit() or name == "*":
        return 0 if name == "*" else int(name)
    if name not in WEEKDAYS:
        raise ValueError(f"{name} is no weekday")
    return WEEKDAYS.index(name)
