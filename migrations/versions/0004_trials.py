"""Which policy is the champion is decided, and every decision has a row.

Why: until now the newest policy acted, however it did on the robot. A policy that an update makes is a
    candidate from now on, and becomes champion by a trial.
Old rows: where iterations have finished, the policy that would have acted next is adopted as champion, so
    that an installation goes on where it was. A fresh one has no row.
Locks: short; the table is new, one row is written. Safe while the previous release runs: it does not know it.
"""

import json
import uuid
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

ID = sa.String(length=36)
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

_optional = sa.Column
_column = partial(sa.Column, nullable=False)

TABLE = "trials"
POLICIES = ("champion_id", "candidate_id", "goes_on_id")


def upgrade() -> None:
    table = op.create_table(
        TABLE,
        _column("id", ID),
        _column("number", sa.Integer()),
        _optional("iteration_id", ID),
        *(_column(name, ID) for name in POLICIES),
        _column("decision", sa.String(length=16)),
        _column("evidence", JSON),
        _column("decided_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "decision IN ('promoted', 'rejected', 'undecided', 'rolled_back', 'adopted')",
            name=op.f(f"ck_{TABLE}_decision_is_known"),
        ),
        sa.CheckConstraint(
            "goes_on_id IN (champion_id, candidate_id)", name=op.f(f"ck_{TABLE}_one_of_both_goes_on")
        ),
        sa.ForeignKeyConstraint(
            ["iteration_id"], ["iterations.id"], name=op.f(f"fk_{TABLE}_iteration_id_iterations")
        ),
        *(
            sa.ForeignKeyConstraint([name], ["checkpoints.id"], name=op.f(f"fk_{TABLE}_{name}_checkpoints"))
            for name in POLICIES
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{TABLE}")),
        sa.UniqueConstraint("number", name=op.f(f"uq_{TABLE}_number")),
    )
    for name in ("iteration_id", *POLICIES):
        op.create_index(op.f(f"ix_{TABLE}_{name}"), TABLE, [name])
    newest = _policy_that_would_act()
    if newest is not None:
        policies = dict.fromkeys(POLICIES, newest)
        row = {"id": str(uuid.uuid4()), "number": 1, "decision": "adopted", "evidence": {}, **policies}
        op.bulk_insert(table, [{**row, "decided_at": datetime.now(UTC)}])


def downgrade() -> None:
    op.drop_table(TABLE)


def _policy_that_would_act() -> str | None:
    """The newest policy that a finished phase made; None where none did."""
    connection = op.get_bind()
    outcomes = connection.execute(
        sa.text("SELECT outcome FROM phase_runs WHERE state = 'finished' AND phase = 'update_policy'")
    ).scalars()
    made = {_read(outcome).get("made", {}).get("policy") for outcome in outcomes if outcome is not None}
    policies = connection.execute(
        sa.text("SELECT id FROM checkpoints WHERE kind = 'policy' ORDER BY number DESC")
    ).scalars()
    return next((policy for policy in policies if policy in made), None)


def _read(outcome: object) -> dict[str, dict[str, str]]:
    """SQLite gives JSON as text, PostgreSQL as an object."""
    found = json.loads(outcome) if isinstance(outcome, str) else outcome
    return found if isinstance(found, dict) else {}
