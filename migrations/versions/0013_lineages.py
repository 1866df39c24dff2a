"""Iterations belong to lineages, which take turns and have a champion of their own.

Why: several policies are to be made better side by side, each by its own iterations.
Old rows: iterations are main's, unless their spec names a lineage, as one may that a release after this one
    wrote before a downgrade. A checkpoint has the lineage of its iteration; what was brought in is anybody's.
Back again: the release before has one line and would go on from whatever is newest in it. So what other
    lineages made, and what was brought in for one of them, stays where it is and is gone on from by nobody:
    their finished phases have made nothing, and their decisions about policies are gone. An unfinished
    iteration of theirs fails by name, because the release before does not know the field.
Locks: both tables for a moment; on PostgreSQL a column with a constant default is not written into old rows.
    Safe while the previous release runs: what it writes is main's.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

MAIN = "main"
NAME = sa.String(length=200)

iterations = sa.table(
    "iterations", sa.column("id", sa.String), sa.column("lineage", sa.String), sa.column("spec", sa.JSON)
)
checkpoints = sa.table(
    "checkpoints",
    sa.column("id", sa.String),
    sa.column("iteration_id", sa.String),
    sa.column("lineage", sa.String),
    sa.column("card", sa.JSON),
)
phase_runs = sa.table(
    "phase_runs", sa.column("id"), sa.column("iteration_id"), sa.column("outcome", sa.JSON(none_as_null=True))
)
trials = sa.table("trials", sa.column("iteration_id"))


def upgrade() -> None:
    op.add_column("iterations", sa.Column("lineage", NAME, server_default=MAIN, nullable=False))
    op.add_column("checkpoints", sa.Column("lineage", NAME, nullable=True))
    named = iterations.c.spec["lineage"].as_string()
    op.execute(iterations.update().where(named.is_not(None)).values(lineage=named))
    own = sa.select(iterations.c.lineage).where(iterations.c.id == checkpoints.c.iteration_id)
    op.execute(
        checkpoints.update()
        .where(checkpoints.c.iteration_id.is_not(None))
        .values(lineage=own.scalar_subquery())
    )
    op.create_index(op.f("ix_iterations_lineage_number"), "iterations", ["lineage", "number"])


def downgrade() -> None:
    others = sa.select(iterations.c.id).where(iterations.c.lineage != MAIN)
    op.execute(trials.delete().where(trials.c.iteration_id.in_(others)))
    _change(phase_runs, phase_runs.c.iteration_id.in_(others), column="outcome", changes={"made": {}})
    brought = sa.and_(checkpoints.c.iteration_id.is_(None), checkpoints.c.lineage != MAIN)
    _change(checkpoints, brought, column="card", changes={"candidate": True})
    op.drop_index(op.f("ix_iterations_lineage_number"), table_name="iterations")
    op.drop_column("checkpoints", "lineage")
    op.drop_column("iterations", "lineage")


def _change(
    table: sa.TableClause, which: sa.ColumnElement[bool], *, column: str, changes: dict[str, object]
) -> None:
    """Put something else into the JSON of some rows: there is no SQL for it that both databases have."""
    session = op.get_bind()
    query = sa.select(table.c.id, table.c[column]).where(which, table.c[column].is_not(None))
    for row_id, document in session.execute(query).all():
        changed = {column: {**document, **changes}}
        session.execute(table.update().where(table.c.id == row_id).values(changed))
