"""Jobs at AutoEval have a row of their own.

Why: a job lives for hours on somebody else's machine; what was submitted, under which description and how far
    it came must outlive the daemon.
Old rows: none; no job was ever submitted before this release.
Locks: none that anybody notices, the table is new. Safe while the previous release runs: it does not know it.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

ID = sa.String(length=36)
NAME = sa.String(length=200)
INSTANT = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

_optional = sa.Column
_column = partial(sa.Column, nullable=False)

TABLE = "autoeval_jobs"


def upgrade() -> None:
    op.create_table(TABLE, *_columns(), *_checks(), *_keys())
    op.create_index(f"ix_{TABLE}_iteration_id", TABLE, ["iteration_id"])
    op.create_index(f"ix_{TABLE}_state", TABLE, ["state"])


def _columns() -> list[sa.Column[object]]:
    return [
        _column("id", ID),
        _column("iteration_id", ID),
        _column("phase_run_id", ID),
        _column("station_id", NAME),
        _column("task_id", NAME),
        _optional("checkpoint_id", ID),
        _column("state", sa.String(length=16)),
        _column("description", NAME),
        _column("robot", NAME),
        _column("num_episodes", sa.Integer()),
        _column("max_steps", sa.Integer()),
        _optional("capability", NAME),
        _column("gateway_folder", NAME),
        _optional("remote_job_id", NAME),
        _optional("success_rate", sa.Double()),
        _optional("checks", JSON),
        _column("created_at", INSTANT),
        _optional("submitted_at", INSTANT),
        _optional("started_at", INSTANT),
        _optional("finished_at", INSTANT),
        _optional("error_code", NAME),
        _optional("error_message", sa.Text()),
    ]


def _checks() -> list[sa.CheckConstraint]:
    open_at_the_gateway = "'planned', 'submitting', 'queued', 'running'"
    over = "'draining', 'joined', 'partial', 'failed', 'cancelled', 'lost'"
    rules = {
        "state_is_known": f"state IN ({open_at_the_gateway}, {over})",
        "capability_ends": f"capability IS NULL OR state IN ({open_at_the_gateway})",
        "size_is_positive": "num_episodes > 0 AND max_steps > 0",
        "success_rate_is_a_share": "success_rate >= 0 AND success_rate <= 1",
    }
    return [sa.CheckConstraint(rule, name=op.f(f"ck_{TABLE}_{name}")) for name, rule in rules.items()]


def _keys() -> list[sa.Constraint]:
    targets = {
        "iteration_id": "iterations",
        "phase_run_id": "phase_runs",
        "station_id": "stations",
        "task_id": "tasks",
        "checkpoint_id": "checkpoints",
    }
    foreign = [
        sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{TABLE}_{column}_{target}")
        for column, target in targets.items()
    ]
    primary = sa.PrimaryKeyConstraint("id", name=f"pk_{TABLE}")
    return [*foreign, primary, sa.UniqueConstraint("description", name=f"uq_{TABLE}_description")]


def downgrade() -> None:
    op.drop_table(TABLE)
