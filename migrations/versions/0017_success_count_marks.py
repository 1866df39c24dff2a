"""Whether a count of success has changed can be asked without reading the counts.

Why: rates by task, policy or iteration are added up from thousands of counts, and a dashboard asks for them
    every second. With a mark of the last change they are added up once for each change.
Old rows: none is touched; the mark begins with the first change.
Locks: none. The previous release may run beside it, but what it counts does not raise the mark, so a process
    of this release may tell grouped rates of before until it, or another of this release, counts again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

TABLE = "success_count_marks"


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f(f"ck_{TABLE}_there_is_one")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{TABLE}")),
    )


def downgrade() -> None:
    op.drop_table(TABLE)
