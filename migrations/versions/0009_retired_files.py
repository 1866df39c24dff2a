"""Checkpoints and episodes know when their files were let go.

Why: a daemon that runs for months has to delete files, and a row whose file was deleted on purpose must not
    look like one whose file was lost.
Old rows: none is retired; all keep their files.
Locks: short; each table gets a column without a default. Safe while the previous release runs: it does not
    know them, and finds no file of a row that this release retired.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

TABLES = ("checkpoints", "episodes")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "retired_at")
