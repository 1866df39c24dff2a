"""What was measured of a world model's trustworthiness has rows of its own.

Why: a policy exploits whatever its world model gets wrong; how far one may be trusted, and why the gate let
    it in or kept it out, is asked per checkpoint and over time, when a phase's outcome is out of view.
Old rows: none; checkpoints made before have no report, and nothing is invented for them.
Locks: none that anybody notices, the table is new. Safe while the previous release runs: it does not know it.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

ID = sa.String(length=36)
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

_optional = sa.Column
_column = partial(sa.Column, nullable=False)

TABLE = "trust_reports"


def upgrade() -> None:
    op.create_table(
        TABLE,
        _column("id", ID),
        _column("checkpoint_id", ID),
        _optional("iteration_id", ID),
        _column("verdict", sa.String(length=16)),
        _column("episodes", sa.Integer()),
        _column("horizon", sa.Integer()),
        _optional("agreement", sa.Double()),
        _optional("optimism", sa.Double()),
        _optional("sensitivity", sa.Double()),
        _column("report", JSON),
        _column("measured_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "verdict IN ('accepted', 'rejected', 'measured')", name=op.f(f"ck_{TABLE}_verdict_is_known")
        ),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoints.id"], name=op.f(f"fk_{TABLE}_checkpoint_id_checkpoints")
        ),
        sa.ForeignKeyConstraint(
            ["iteration_id"], ["iterations.id"], name=op.f(f"fk_{TABLE}_iteration_id_iterations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{TABLE}")),
    )
    op.create_index(op.f(f"ix_{TABLE}_checkpoint_id"), TABLE, ["checkpoint_id"])
    op.create_index(op.f(f"ix_{TABLE}_iteration_id"), TABLE, ["iteration_id"])


def downgrade() -> None:
    op.drop_table(TABLE)
