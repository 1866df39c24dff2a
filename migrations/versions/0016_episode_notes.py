"""People can write notes on episodes without judging them.

Why: that a cable snagged at step 20 could be said only beside a verdict, and it is none.
Old rows: none is touched; what was written beside a verdict stays there.
Locks: on PostgreSQL the foreign key holds back writes of episodes for a moment. The previous release may run
    beside it: it neither reads nor writes the table, but its gc lets go of episodes that have a note alone.
    A downgrade drops the notes, and the idempotency keys that point at them.

Notes are only ever added: triggers refuse to change or delete them on both databases.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

TABLE = "episode_notes"
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_column = partial(sa.Column, nullable=False)


def upgrade() -> None:
    op.create_table(
        TABLE,
        _column("id", SERIAL),
        _column("episode_id", sa.String(length=100)),
        _column("text", sa.Text()),
        _column("author", sa.String(length=200)),
        _column("noted_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "length(text) > 0 AND length(text) <= 2000", name=op.f(f"ck_{TABLE}_text_has_a_size")
        ),
        sa.ForeignKeyConstraint(
            ["episode_id"], ["episodes.id"], name=op.f(f"fk_{TABLE}_episode_id_episodes")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{TABLE}")),
    )
    op.create_index(op.f(f"ix_{TABLE}_episode_id"), TABLE, ["episode_id"])
    _forbid_changes()


def downgrade() -> None:
    op.drop_table(TABLE)  # its index and its triggers go with it
    op.execute("DELETE FROM request_keys WHERE scope = 'notes'")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP FUNCTION {TABLE}_refuse_changes()")


def _forbid_changes() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {TABLE}_refuse_{verb} BEFORE {verb.upper()} ON {TABLE} "
                f"BEGIN SELECT RAISE(ABORT, '{TABLE} is append-only'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {TABLE}_refuse_changes() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{TABLE} is append-only'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {TABLE}_refuse_changes BEFORE UPDATE OR DELETE ON {TABLE} "
        f"FOR EACH ROW EXECUTE FUNCTION {TABLE}_refuse_changes()"
    )
