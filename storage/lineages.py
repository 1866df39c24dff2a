"""Lineages: lines of iterations with a champion each, which take turns only with their own.

The name of its lineage stands in an iteration's spec; whoever names none is in `MAIN`. Robots are shared, and
so are the checkpoints that a lineage begins with. A row of no iteration counts as main's.
"""

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from storage.columns import MAIN
from storage.tables import IterationRow

__all__ = ["MAIN", "in_lineage", "lineage_of", "names", "of_iterations", "with_main"]


def lineage_of(spec: Mapping[str, Any]) -> str:
    """The lineage that a stored spec names."""
    return str(spec.get("lineage", MAIN))


def names(session: Session) -> list[str]:
    """Every lineage that has an iteration, by name."""
    return list(session.scalars(sa.select(IterationRow.lineage).distinct().order_by(IterationRow.lineage)))


def with_main(session: Session) -> list[str]:
    """The same and main, which is there before its first iteration."""
    return sorted({MAIN, *names(session)})


def of_iterations(session: Session, iteration_ids: Collection[str]) -> dict[str, str]:
    """The lineage of each of these iterations."""
    query = sa.select(IterationRow.id, IterationRow.lineage).where(IterationRow.id.in_(iteration_ids))
    return {row.id: row.lineage for row in session.execute(query)}


def in_lineage(
    iteration_id: InstrumentedAttribute[Any] | sa.ColumnElement[Any], lineage: str
) -> sa.ColumnElement[bool]:
    """The condition that a row with this column is of an iteration of the lineage."""
    own = sa.select(IterationRow.id).where(IterationRow.lineage == lineage)
    inside: sa.ColumnElement[bool] = iteration_id.in_(own)
    return sa.or_(iteration_id.is_(None), inside) if lineage == MAIN else inside
