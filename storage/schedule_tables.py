"""The tables of when things happen: schedules of iterations, and the hours of each station."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from storage.columns import ID_LENGTH, NAME_LENGTH, JsonColumn, Row, id_column, new_id


class ScheduleRow(Row):
    """Iterations that are asked for again and again, and when it is due next.

    `version` counts what people changed; being due changes it not. An enabled schedule without `next_run_at`
    waits for the end of its last iteration.
    """

    __tablename__ = "schedules"
    __table_args__ = (
        sa.CheckConstraint("runs >= 0", name="runs_count_up"),
        sa.CheckConstraint("max_runs > 0", name="max_runs_is_positive"),
        sa.CheckConstraint("version > 0", name="version_is_positive"),
        sa.Index(None, "enabled", "next_run_at"),
    )

    id: Mapped[str] = mapped_column(sa.String(ID_LENGTH), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), unique=True)
    enabled: Mapped[bool]
    trigger: Mapped[dict[str, Any]]
    spec: Mapped[dict[str, Any]]
    ends_at: Mapped[datetime | None]
    max_runs: Mapped[int | None]
    version: Mapped[int]
    runs: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    next_run_at: Mapped[datetime | None]
    last_run_at: Mapped[datetime | None]
    last_iteration_id: Mapped[str | None] = id_column("iterations.id", nullable=True)
    last_result: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)


class StationHoursRow(Row):
    """When a robot may move, by its station's id; the station need not have been seen yet."""

    __tablename__ = "station_hours"
    __table_args__ = (sa.CheckConstraint("version > 0", name="version_is_positive"),)

    station_id: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), primary_key=True)
    hours: Mapped[dict[str, Any]]
    version: Mapped[int]
    updated_at: Mapped[datetime]
