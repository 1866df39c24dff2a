"""When a robot may move: weekly windows in its own time zone, a duty cycle, and rests. Arithmetic only.

Windows are by the clock on the wall, so a night is an hour shorter in spring and longer in autumn. Which
hours a station has, and when it has moved, is read elsewhere (`waiting.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from daemon.scheduling.triggers import known_zone
from daemon.spec import SpecModel

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LOOK_BACK = DAY  # what a robot did before that counts for neither duty nor rest

Span = tuple[datetime, datetime]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="like 20:00")]


class Window(SpecModel):
    """From a time of day to another, on the next day where that is not later; days are those it begins on."""

    days: Annotated[tuple[Day, ...], Field(min_length=1, max_length=7)] = DAYS
    begins: Clock
    ends: Clock

    def holds(self, local: datetime) -> bool:
        """Whether a time on the wall lies in it."""
        begins, ends, at = time.fromisoformat(self.begins), time.fromisoformat(self.ends), local.time()
        today, before = DAYS[local.weekday()] in self.days, DAYS[local.weekday() - 1] in self.days
        if begins < ends:
            return today and begins <= at < ends
        return (today and at >= begins) or (before and at < ends)


class Rest(SpecModel):
    """After so many minutes of movement without such a rest, the robot rests."""

    after_minutes: Annotated[float, Field(gt=0.0, le=1440.0)]
    minutes: Annotated[float, Field(gt=0.0, le=720.0)]


class RobotHours(SpecModel):
    """Without any of it, a robot may always move."""

    timezone: Annotated[str, Field(max_length=100)] = "UTC"
    open: Annotated[tuple[Window, ...], Field(max_length=50)] = Field(
        default=(), description="robot hours: it moves in these only; empty means at any time"
    )
    quiet: Annotated[tuple[Window, ...], Field(max_length=50)] = Field(
        default=(), description="quiet hours: it moves in none of these"
    )
    minutes_per_hour: Annotated[float, Field(gt=0.0, le=60.0)] | None = Field(
        default=None, description="duty cycle: so much movement in any sixty minutes"
    )
    rest: Rest | None = None

    _zone_exists = field_validator("timezone")(known_zone)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @model_validator(mode="after")
    def _opens_some_time(self) -> Self:
        if opens_at(self, datetime(2026, 1, 1, tzinfo=UTC)) is None:
            raise ValueError("the robot could never move in these hours")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Why a robot does not move now, and until when; None: it will not any more.

    `spent` says whose episodes are used up, where that is why.
    """

    why: str
    until: datetime | None
    spent: Literal["day", "iteration"] | None = None

    def __str__(self) -> str:
        return self.why if self.until is None else f"{self.why}: waiting until {self.until:%Y-%m-%d %H:%M %Z}"


def is_open(hours: RobotHours, at: datetime) -> bool:
    """Whether the windows let a robot move at an instant."""
    local = at.astimezone(hours.zone)
    in_open = not hours.open or any(window.holds(local) for window in hours.open)
    return in_open and not any(window.holds(local) for window in hours.quiet)


def opens_at(hours: RobotHours, now: datetime) -> datetime | None:
    """The first instant from now on at which the windows let a robot move; None when there is none."""
    if is_open(hours, now):
        return now
    zone = hours.zone
    today = now.astimezone(zone).date()
    clocks = {window.begins for window in hours.open} | {window.ends for window in hours.quiet} | {"00:00"}
    edges = (
        datetime.combine(today + DAY * days, time.fromisoformat(clock), tzinfo=zone).astimezone(UTC)
        for days in range(9)
        for clock in clocks
    )
    return next((edge for edge in sorted(edges) if edge > now and is_open(hours, edge)), None)


def closed(hours: RobotHours, moved: Sequence[Span], *, now: datetime) -> Closed | None:
    """Why a robot may not begin an episode now; None when it may.

    Args:
        moved: from when to when it recorded its latest episodes, oldest first.
    """
    zone = hours.zone
    opens = opens_at(hours, now)
    if opens != now:
        return Closed(why="outside of its hours", until=None if opens is None else opens.astimezone(zone))
    rested = _rests_until(hours.rest, moved, now=now)
    if rested is not None:
        return Closed(why="the robot rests", until=rested.astimezone(zone))
    cooled = _duty_until(hours.minutes_per_hour, moved, now=now)
    if cooled is not None:
        return Closed(why="its duty cycle is used up", until=cooled.astimezone(zone))
    return None


def _duty_until(minutes_per_hour: float | None, moved: Sequence[Span], *, now: datetime) -> datetime | None:
    """When one more episode as long as the longest fits into the hour before its end.

    An episode longer than the whole allowance waits until the hour before it was free of movement.
    """
    recent = [(max(begun, now - HOUR), min(ended, now)) for begun, ended in moved if ended > now - HOUR]
    spans = sorted((begun, ended) for begun, ended in recent if ended > begun)
    if minutes_per_hour is None or not spans:
        return None
    used = sum((ended - begun for begun, ended in spans), timedelta())
    longest = max(ended - begun for begun, ended in spans)
    surplus = min(used, used + longest - timedelta(minutes=minutes_per_hour))
    if surplus <= timedelta():
        return None
    for begun, ended in spans:
        if surplus <= ended - begun:
            return begun + surplus + HOUR
        surplus -= ended - begun
    return spans[-1][1] + HOUR


def _rests_until(rest: Rest | None, moved: Sequence[Span], *, now: datetime) -> datetime | None:
    """When the rest is over that the movement since the last rest has earned."""
    if rest is None or not moved:
        return None
    pause, work = timedelta(minutes=rest.minutes), timedelta()
    began = now
    latest = max(ended for _, ended in moved)
    if now - latest >= pause:
        return None
    for begun, ended in sorted(moved, reverse=True):
        if began - ended >= pause:
            break
        work += ended - begun
        began = min(began, begun)
    return latest + pause if work >= timedelta(minutes=rest.after_minutes) else None
