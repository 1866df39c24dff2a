"""What happened is kept in order, with how far each webhook was told of it, and which keys were used.

Why: people and programs want to be told of what happens, and to go on where they stopped listening. A label
    that is sent twice is to be one label.
Old rows: nothing is told of what happened before. Episodes get an index by task and validity, because they
    are counted so every few seconds.
Locks: short, but for the index: it is built in one pass over the episodes while nobody can add one. Safe
    while the previous release runs: it does not know the tables, and what it does is not told.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"

NAME = sa.String(length=200)
INSTANT = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
COUNTED = ["task_id", "valid_for_policy_eval", "valid_for_world_model"]

_optional = sa.Column
_column = partial(sa.Column, nullable=False)


def upgrade() -> None:
    op.create_table(
        "events",
        _column("id", SERIAL),
        _column("at", INSTANT),
        _column("kind", sa.String(length=64)),
        _optional("iteration", sa.Integer()),
        _column("facts", JSON),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_kind_id"), "events", ["kind", "id"])
    op.create_index(op.f("ix_events_iteration"), "events", ["iteration"])
    _forbid_changes("events")
    op.create_table(
        "webhooks",
        _column("name", NAME),
        _column("position", sa.BigInteger()),
        _column("tries", sa.Integer()),
        _optional("failing_since", INSTANT),
        _optional("next_try_at", INSTANT),
        _optional("last_error", sa.Text()),
        _column("delivered", sa.Integer()),
        _column("given_up", sa.Integer()),
        sa.CheckConstraint("tries >= 0", name=op.f("ck_webhooks_tries_count_up")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_webhooks")),
    )
    op.create_table(
        "request_keys",
        _column("scope", NAME),
        _column("key", NAME),
        _column("digest", sa.String(length=64)),
        _column("made", NAME),
        _column("used_at", INSTANT),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("pk_request_keys")),
    )
    op.create_index(op.f(f"ix_episodes_{'_'.join(COUNTED)}"), "episodes", COUNTED)


def downgrade() -> None:
    op.drop_index(op.f(f"ix_episodes_{'_'.join(COUNTED)}"), "episodes")
    for table in ("request_keys", "webhooks", "events"):  # indexes and triggers go with their table
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION events_refuse_changes()")


def _forbid_changes(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_refuse_{verb} BEFORE {verb.upper()} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_refuse_changes() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_refuse_changes BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_refuse_changes()"
    )
