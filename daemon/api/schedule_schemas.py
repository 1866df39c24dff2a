"""What the REST API answers about schedules and hours, field by field."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from daemon.scheduling.hours import RobotHours


class ScheduleResult(BaseModel):
    """What came of the last due time.

    `outcome`: requested, skipped (the iteration before was not over), refused (see `reason`), ended.
    `missed_some`: due times passed unheeded, and count as this one.
    """

    at: datetime
    due: datetime | None
    missed_some: bool
    outcome: str
    iteration: int | None
    reason: str | None


class ScheduleRecord(BaseModel):
    """A schedule; `next_runs` are the next times at which it is due, as far as they are known."""

    id: str
    name: str
    enabled: bool
    trigger: dict[str, Any]
    spec: dict[str, Any]
    ends_at: datetime | None
    max_runs: int | None
    version: int
    runs: int
    created_at: datetime
    updated_at: datetime
    next_run_at: datetime | None
    next_runs: list[datetime]
    last_run_at: datetime | None
    last_iteration: int | None
    last_result: ScheduleResult | None


class Schedules(BaseModel):
    """By name."""

    items: list[ScheduleRecord]


class StationHours(BaseModel):
    """When a robot may move. `open_now` is by its hours; `waiting_for` also by its duty and its rest."""

    station: str
    hours: RobotHours
    version: int
    updated_at: datetime | None
    open_now: bool
    waiting_for: str | None
