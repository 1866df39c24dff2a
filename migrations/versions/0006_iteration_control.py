"""People steer iterations: they pause, go on, are tried again, and do without a phase.

Why: until now an iteration could only run to its end.
Old rows: stay as they are; nothing was wished of them and none of their attempts is forgiven.
Back again: a paused iteration is requested again, or running where it had begun, and goes on by itself. A
    skipped phase counts as finished with nothing made. A failed attempt that was forgiven counts as
    abandoned, so that its phase is tried again. An unfinished iteration of chosen phases fails there by name,
    because the release before does not know the field.
Locks: both tables for a moment, on SQLite as long as it takes to copy them. Safe while the previous release
    runs: it reads neither column, and both have a value of their own where it writes none.
"""

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0006"
down_revision = "0005"

ITERATION_STATES = ("requested", "running", "paused", "finished", "failed", "cancelled")
RUN_STATES = ("queued", "running", "finished", "failed", "abandoned", "skipped")


def upgrade() -> None:
    with op.batch_alter_table("iterations") as table:
        table.add_column(sa.Column("wish", sa.String(length=16), nullable=True))
        _know(table, "iterations", ITERATION_STATES)
        table.create_check_constraint(
            op.f("ck_iterations_wish_is_known"), "wish IS NULL OR (wish = 'pause' AND state = 'running')"
        )
    with op.batch_alter_table("phase_runs") as table:
        table.add_column(sa.Column("forgiven", sa.Boolean(), server_default=sa.false(), nullable=False))
        _know(table, "phase_runs", RUN_STATES)


def downgrade() -> None:
    op.execute("UPDATE iterations SET state = 'requested' WHERE state = 'paused' AND started_at IS NULL")
    op.execute("UPDATE iterations SET state = 'running' WHERE state = 'paused'")
    op.execute("UPDATE phase_runs SET state = 'abandoned' WHERE state = 'failed' AND forgiven")
    op.execute("UPDATE phase_runs SET state = 'finished', outcome = '{}' WHERE state = 'skipped'")
    with op.batch_alter_table("phase_runs") as table:
        table.drop_column("forgiven")
        _know(table, "phase_runs", RUN_STATES[:-1])
    with op.batch_alter_table("iterations") as table:
        table.drop_constraint(op.f("ck_iterations_wish_is_known"), type_="check")
        _know(table, "iterations", tuple(state for state in ITERATION_STATES if state != "paused"))
        table.drop_column("wish")


def _know(table: BatchOperations, name: str, states: tuple[str, ...]) -> None:
    """Let a table hold these states and no other."""
    known = ", ".join(f"'{state}'" for state in states)
    table.drop_constraint(op.f(f"ck_{name}_state_is_known"), type_="check")
    table.create_check_constraint(op.f(f"ck_{name}_state_is_known"), f"state IN ({known})")
