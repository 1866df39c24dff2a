"""Episodes say what their recording tells about the station: steps that were cut, and how long they took.

Why: whether a robot is cut more often than before, or answers later, stood only in the recordings.
Old rows: episodes of before have no row and are told as not measured; their files are not read here.
Locks: one new table, and one index over the episodes, which takes about a second per million of them. Safe
    while the previous release runs: it neither reads nor writes the table.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0015"
down_revision = "0014"

TABLE = "episode_health"
EPISODE = sa.String(length=100)
INDEX = "ix_episodes_station_id_origin_committed_at"
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("episode_id", EPISODE, nullable=False),
        sa.Column("cut_steps", sa.Integer(), nullable=True),
        sa.Column("cuts", JSON, nullable=True),
        sa.Column("inference_ms", JSON, nullable=False),
        sa.Column("step_ms", JSON, nullable=False),
        sa.CheckConstraint("cut_steps >= 0", name=op.f(f"ck_{TABLE}_cut_steps_are_counted")),
        sa.ForeignKeyConstraint(
            ["episode_id"], ["episodes.id"], name=op.f(f"fk_{TABLE}_episode_id_episodes")
        ),
        sa.PrimaryKeyConstraint("episode_id", name=op.f(f"pk_{TABLE}")),
    )
    op.create_index(op.f(INDEX), "episodes", ["station_id", "origin", "committed_at"])


def downgrade() -> None:
    op.drop_index(op.f(INDEX), "episodes")
    op.drop_table(TABLE)
