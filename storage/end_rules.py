"""By which rule the episodes of an iteration end: at their full length, or where a judge saw success.

The two are not the same quantity: whoever would have spoiled a success later has not. So rates of one rule
are not compared with those of the other. The rule stands in the iteration's spec, exceptions by task in what
its collect phase left; while that runs, the spec alone is known.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.tables import IterationRow, PhaseRunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRule:
    """Of one iteration; tasks of `full_length` are not ended early though the others may be.

    As it is made it is that of episodes of no iteration: full length.
    """

    number: int = 0
    early: bool = False
    full_length: frozenset[str] = field(default_factory=frozenset)

    def ends_early(self, task: str) -> bool:
        """Whether a judge may end episodes of this task."""
        return self.early and task not in self.full_length


def same_rule(one: EndRule, other: EndRule, *, task: str) -> bool:
    """Whether rates of two iterations at a task may be compared."""
    return one.ends_early(task) == other.ends_early(task)


def of_iterations(session: Session, iteration_ids: Collection[str]) -> dict[str, EndRule]:
    """The rule of each of these iterations."""
    return _rules(session, IterationRow.id.in_(iteration_ids))


def of_numbers(session: Session, numbers: Collection[int]) -> dict[int, EndRule]:
    """The same by the iterations' numbers."""
    return {rule.number: rule for rule in _rules(session, IterationRow.number.in_(numbers)).values()}


def _rules(session: Session, which: sa.ColumnElement[bool]) -> dict[str, EndRule]:
    early = IterationRow.spec["stop_on_success"].as_boolean()
    rows = session.execute(sa.select(IterationRow.id, IterationRow.number, early).where(which)).all()
    stopping = [id_ for id_, _, stops in rows if stops]
    kept = _full_length(session, stopping) if stopping else {}
    return {
        id_: EndRule(number=number, early=bool(stops), full_length=kept.get(id_, frozenset()))
        for id_, number, stops in rows
    }


def _full_length(session: Session, iteration_ids: Collection[str]) -> dict[str, frozenset[str]]:
    """The tasks that a finished collect phase did not end early."""
    query = sa.select(PhaseRunRow.iteration_id, PhaseRunRow.outcome).where(
        PhaseRunRow.iteration_id.in_(iteration_ids),
        PhaseRunRow.phase == "collect",
        PhaseRunRow.state == "finished",
    )
    return {
        id_: frozenset((outcome or {}).get("full_length") or {}) for id_, outcome in session.execute(query)
    }
