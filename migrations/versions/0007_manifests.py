"""What every phase run worked from is kept, and what the weights of a checkpoint hash to.

Why: an iteration can be repeated and compared only if it is known exactly what it read, with which code.
Old rows: phase runs and checkpoints of before have no row in the new tables; they cannot be repeated.
Locks: short; both tables are new. Safe while the previous release runs: it does not know them.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ID = sa.String(length=36)
SHA256 = sa.String(length=64)
MANIFESTS = "phase_manifests"
DIGESTS = "tensor_digests"

_column = partial(sa.Column, nullable=False)


def upgrade() -> None:
    op.create_table(
        MANIFESTS,
        _column("phase_run_id", ID),
        _column("content", sa.Text()),
        _column("sha256", SHA256),
        _column("written_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["phase_run_id"], ["phase_runs.id"], name=op.f(f"fk_{MANIFESTS}_phase_run_id_phase_runs")
        ),
        sa.PrimaryKeyConstraint("phase_run_id", name=op.f(f"pk_{MANIFESTS}")),
    )
    op.create_table(
        DIGESTS,
        _column("checkpoint_id", ID),
        _column("sha256", SHA256),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoints.id"], name=op.f(f"fk_{DIGESTS}_checkpoint_id_checkpoints")
        ),
        sa.PrimaryKeyConstraint("checkpoint_id", name=op.f(f"pk_{DIGESTS}")),
    )


def downgrade() -> None:
    op.drop_table(DIGESTS)
    op.drop_table(MANIFESTS)
