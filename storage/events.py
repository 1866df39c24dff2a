"""What happened, in the order in which it became true: rows that are only added, read by position.

Whoever changes something notes it on the session; the rows are written by `Database.write` as the last thing
of that transaction, so an event is there if, and only if, what it tells of is. An event's id is its position:
ids rise in the order of commits, so a reader that has seen position n never misses one below it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, object_session

from storage.canonical import as_json
from storage.columns import MAIN
from storage.cursors import number_of
from storage.event_tables import EventRow
from storage.tables import AutoEvalJobRow, IterationRow, PhaseRunRow

NOTED = "noted_events"  # where a session keeps what its transaction will tell
LONGEST_MESSAGE = 1000  # characters of an error that an event repeats; the run's row has all of it
STARTED = {"running": "started"}  # states whose event has another word

Facts = dict[str, Any]
StateRow = IterationRow | PhaseRunRow | AutoEvalJobRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """An event that the running transaction will write; `facts` are asked for at its end."""

    kind: str
    at: datetime
    facts: Callable[[], Mapping[str, Any]]
    iteration_id: str | None = None


def note(
    session: Session,
    kind: str,
    *,
    at: datetime,
    facts: Mapping[str, Any] | None = None,
    iteration_id: str | None = None,
) -> None:
    """Tell that something happened, once this transaction is committed."""
    _noted(session).append(Noted(kind=kind, at=at, facts=lambda: facts or {}, iteration_id=iteration_id))


def note_state(row: StateRow, *, at: datetime) -> None:
    """Tell of the state that a row has come into, with the row's facts as they are at the commit."""
    session = object_session(row)
    if session is None:  # a row that belongs to no database
        return
    noun, iteration_id = _noun(row)
    kind = f"{noun}_{STARTED.get(row.state, row.state)}"
    _noted(session).append(
        Noted(kind=kind, at=at, facts=lambda: _facts_of(row), iteration_id=iteration_id or row.id)
    )


def settle(session: Session) -> list[EventRow]:
    """Turn what was noted into rows, and forget it; `Database.write` adds them under its lock."""
    noted: list[Noted] = session.info.pop(NOTED, [])
    return [_settled(session, one) for one in noted]


def _settled(session: Session, one: Noted) -> EventRow:
    """An event's row; one of another lineage than main has its name among the facts."""
    iteration = None if one.iteration_id is None else session.get(IterationRow, one.iteration_id)
    facts = dict(one.facts())
    if iteration is not None and iteration.lineage != MAIN:
        facts["lineage"] = iteration.lineage
    return EventRow(
        at=one.at,
        kind=one.kind,
        iteration=None if iteration is None else iteration.number,
        facts=as_json(facts, what=f"the facts of the event {one.kind}"),
    )


def after(
    session: Session, position: int, *, kinds: Collection[str] = (), limit: int = 200
) -> list[EventRow]:
    """The events behind a position, oldest first; of these kinds, or of all."""
    query = sa.select(EventRow).where(EventRow.id > position).order_by(EventRow.id).limit(limit)
    return list(session.scalars(_of_kinds(query, kinds)))


def newest_position(session: Session) -> int:
    """The position of the newest event; 0 when nothing has happened."""
    return session.scalars(sa.select(sa.func.max(EventRow.id))).one() or 0


def newest_of(
    session: Session, kinds: Collection[str], *, facts: Mapping[str, str] | None = None
) -> EventRow | None:
    """The newest event of these kinds, among those whose facts say this."""
    query = _of_kinds(sa.select(EventRow), kinds).order_by(EventRow.id.desc())
    for name, said in (facts or {}).items():
        query = query.where(EventRow.facts[name].as_string() == said)
    return session.scalars(query.limit(1)).first()


def list_events(
    session: Session,
    *,
    kinds: Collection[str] = (),
    iteration: int | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> tuple[list[EventRow], str | None]:
    """A page of events, newest first, and the cursor of the page after it, if there is one.

    Raises:
        CursorInvalid: the cursor is not one that this function returned.
    """
    query = _of_kinds(sa.select(EventRow), kinds).order_by(EventRow.id.desc()).limit(limit + 1)
    if iteration is not None:
        query = query.where(EventRow.iteration == iteration)
    if cursor is not None:
        query = query.where(EventRow.id < position_of(cursor))
    rows = list(session.scalars(query))
    return rows[:limit], str(rows[limit - 1].id) if len(rows) > limit else None


def position_of(text: str) -> int:
    """A position as it travels in a cursor or in `Last-Event-ID`.

    Raises:
        CursorInvalid: it is not one.
    """
    return number_of(text, digits=18)


def _noted(session: Session) -> list[Noted]:
    found: list[Noted] = session.info.setdefault(NOTED, [])
    return found


def _of_kinds(query: sa.Select[EventRow], kinds: Collection[str]) -> sa.Select[EventRow]:
    return query.where(EventRow.kind.in_(kinds)) if kinds else query


def _noun(row: StateRow) -> tuple[str, str | None]:
    """What such a row is called, and whose part it is."""
    if isinstance(row, IterationRow):
        return "iteration", None
    return ("phase" if isinstance(row, PhaseRunRow) else "autoeval_job"), row.iteration_id


def _facts_of(row: StateRow) -> Facts:
    facts: Facts = {"error": _error_of(row)} if row.error_code else {}
    if isinstance(row, PhaseRunRow):
        facts |= {"phase": row.phase, "attempt": row.attempt, "phase_run_id": row.id, "worker": row.worker}
    elif isinstance(row, AutoEvalJobRow):
        facts |= {"job_id": row.id, "task": row.task_id, "robot": row.robot}
    return facts


def _error_of(row: StateRow) -> dict[str, str]:
    return {"code": str(row.error_code), "message": (row.error_message or "")[:LONGEST_MESSAGE]}
