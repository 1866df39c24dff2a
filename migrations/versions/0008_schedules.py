"""Iterations are asked for by schedules, and robots have hours.

Why: a daemon that is left running asks for iterations itself, and people want their robot back by day.
Old rows: untouched; without rows nothing is scheduled and every robot may move at any time, as before.
Locks: short; both tables are new. Safe while the previous release runs: it knows neither.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"

ID = sa.String(length=36)
NAME = sa.String(length=200)
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
WHEN = sa.DateTime(timezone=True)

_optional = sa.Column
_column = partial(sa.Column, nullable=False)


def upgrade() -> None:
    op.create_table(
        "schedules",
        _column("id", ID),
        _column("name", NAME),
        _column("enabled", sa.Boolean()),
        _column("trigger", JSON),
        _column("spec", JSON),
        _optional("ends_at", WHEN),
        _optional("max_runs", sa.Integer()),
        _column("version", sa.Integer()),
        _column("runs", sa.Integer()),
        _column("created_at", WHEN),
        _column("updated_at", WHEN),
        _optional("next_run_at", WHEN),
        _optional("last_run_at", WHEN),
        _optional("last_iteration_id", ID),
        _optional("last_result", JSON),
        sa.CheckConstraint("runs >= 0", name=op.f("ck_schedules_runs_count_up")),
        sa.CheckConstraint("max_runs > 0", name=op.f("ck_schedules_max_runs_is_positive")),
        sa.CheckConstraint("version > 0", name=op.f("ck_schedules_version_is_positive")),
        sa.ForeignKeyConstraint(
            ["last_iteration_id"], ["iterations.id"], name=op.f("fk_schedules_last_iteration_id_iterations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("name", name=op.f("uq_schedules_name")),
    )
    op.create_index(op.f("ix_schedules_enabled_next_run_at"), "schedules", ["enabled", "next_run_at"])
    op.create_index(op.f("ix_schedules_last_iteration_id"), "schedules", ["last_iteration_id"])
    op.create_table(
        "station_hours",
        _column("station_id", NAME),
        _column("hours", JSON),
        _column("version", sa.Integer()),
        _column("updated_at", WHEN),
        sa.CheckConstraint("version > 0", name=op.f("ck_station_hours_version_is_positive")),
        sa.PrimaryKeyConstraint("station_id", name=op.f("pk_station_hours")),
    )


def downgrade() -> None:
    op.drop_table("station_hours")
    op.drop_table("schedules")
