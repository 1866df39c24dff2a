"""Who may call the REST API is in a table of bearer tokens.

Why: until now whoever could reach the address could do everything.
Old rows: none are touched. Without a token in it nothing changes for callers on the same machine.
Locks: short; the table is new. Safe while the previous release runs: it does not know it, and asks nobody
    for a token.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

_optional = sa.Column
_column = partial(sa.Column, nullable=False)

TABLE = "access_tokens"


def upgrade() -> None:
    op.create_table(
        TABLE,
        _column("id", sa.String(length=16)),
        _column("name", sa.String(length=200)),
        _column("scopes", JSON),
        _column("secret_hash", sa.String(length=200)),
        _column("created_at", sa.DateTime(timezone=True)),
        _optional("expires_at", sa.DateTime(timezone=True)),
        _optional("revoked_at", sa.DateTime(timezone=True)),
        _optional("last_used_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{TABLE}")),
    )
    op.create_index(op.f(f"ix_{TABLE}_name"), TABLE, ["name"])


def downgrade() -> None:
    op.drop_table(TABLE)
