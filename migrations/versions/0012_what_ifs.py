"""What-ifs that people ask of a world model, and pictures of theirs that policy updates may start from.

Why: what would happen from this picture is to be asked over REST, and done by a worker between its phases.
Old rows: none is touched.
Locks: none but the two new tables. Safe while the previous release runs: it does not know them, and a sweep
    of its own could take pictures that only they name, so upgrade the daemon before anybody asks.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"

ID = sa.String(length=36)
NAME = sa.String(length=200)
INSTANT = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

_optional = sa.Column
_column = partial(sa.Column, nullable=False)


def upgrade() -> None:
    op.create_table(
        "what_ifs",
        _column("id", ID),
        _column("state", sa.String(length=16)),
        _column("attempts", sa.Integer()),
        _column("request", JSON),
        _optional("result", JSON),
        _column("requested_by", NAME),
        _optional("worker", NAME),
        _optional("fence", sa.BigInteger()),
        _column("progress", sa.Double()),
        _column("progress_text", sa.Text()),
        _column("requested_at", INSTANT),
        _optional("started_at", INSTANT),
        _optional("finished_at", INSTANT),
        _optional("error_code", NAME),
        _optional("error_message", sa.Text()),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'finished', 'failed')", name=op.f("ck_what_ifs_state_is_known")
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_what_ifs_attempts_count_up")),
        sa.CheckConstraint("progress >= 0 AND progress <= 1", name=op.f("ck_what_ifs_progress_is_a_share")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_what_ifs")),
    )
    op.create_index(op.f("ix_what_ifs_state_requested_at"), "what_ifs", ["state", "requested_at"])
    op.create_table(
        "start_images",
        _column("id", ID),
        _column("task_id", NAME),
        _column("instruction", sa.Text()),
        _optional("image", JSON),
        _column("added_by", NAME),
        _column("added_at", INSTANT),
        _optional("removed_at", INSTANT),
        sa.CheckConstraint(
            "(image IS NULL) = (removed_at IS NOT NULL)", name=op.f("ck_start_images_image_ends")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_start_images")),
    )
    op.create_index(op.f("ix_start_images_removed_at_task_id"), "start_images", ["removed_at", "task_id"])


def downgrade() -> None:
    for table in ("start_images", "what_ifs"):  # indexes go with their table
        op.drop_table(table)
