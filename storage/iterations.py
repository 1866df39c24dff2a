"""Iterations: asked for once, numbered 1, 2, 3, …, found again, cancelled.

What happens inside one is the business of `phase_runs`; how a spec looks is the business of the daemon, but
for the name of its lineage (`lineages`).
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import events, phase_runs
from storage.canonical import as_json, json_digest
from storage.cursors import number_of
from storage.db import serialise
from storage.errors import IdempotencyMismatch, RowMissing
from storage.lineages import lineage_of
from storage.states import move
from storage.tables import IterationRow

UNFINISHED = ("requested", "running", "paused")
TURNS = "advance"  # under this name, whoever decides how iterations go on is alone


def request_iteration(
    session: Session, *, spec: Mapping[str, Any], idempotency_key: str | None, now: datetime
) -> tuple[IterationRow, bool]:
    """Ask for an iteration.

    Returns:
        The row, and whether it is new: the same key with the same spec finds the first request again.

    Raises:
        IdempotencyMismatch: the key was used for another spec.
        NotJson: the spec holds something that JSON cannot.
    """
    digest = json_digest(spec, what="the spec")
    serialise(session, "iterations")
    if idempotency_key is not None:
        before = _by_key(session, idempotency_key)
        if before is not None:
            if before.spec_digest != digest:
                raise IdempotencyMismatch(
                    key=idempotency_key, number=before.number, stored=before.spec_digest, found=digest
                )
            return before, False
    row = IterationRow(
        number=_next_number(session),
        lineage=lineage_of(spec),
        state="requested",
        spec=as_json(spec, what="the spec"),
        spec_digest=digest,
        idempotency_key=idempotency_key,
        requested_at=now,
    )
    session.add(row)
    session.flush()
    events.note_state(row, at=now)
    return row, True


def get(session: Session, iteration_id: str) -> IterationRow:
    """One iteration.

    Raises:
        RowMissing: there is none with this id.
    """
    row = session.get(IterationRow, iteration_id)
    if row is None:
        raise RowMissing(kind="iteration", row_id=iteration_id)
    return row


def specs(session: Session, iteration_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """What each of these iterations was asked to do."""
    query = sa.select(IterationRow.id, IterationRow.spec).where(IterationRow.id.in_(iteration_ids))
    return {row.id: row.spec for row in session.execute(query)}


def list_iterations(
    session: Session, *, lineage: str | None = None, cursor: str | None = None, limit: int = 50
) -> tuple[list[IterationRow], str | None]:
    """A page of iterations, of one lineage or of all, newest first, and the cursor of the page after it.

    Raises:
        CursorInvalid: the cursor is not one that this function returned.
    """
    query = sa.select(IterationRow).order_by(IterationRow.number.desc()).limit(limit + 1)
    if lineage is not None:
        query = query.where(IterationRow.lineage == lineage)
    if cursor is not None:
        query = query.where(IterationRow.number < number_of(cursor))
    rows = list(session.scalars(query))
    return rows[:limit], str(rows[limit - 1].number) if len(rows) > limit else None


def list_numbers(
    session: Session,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    lineage: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> tuple[list[tuple[str, int]], str | None]:
    """The same pages with ids and numbers alone, of iterations that were asked for in [since, until).

    Raises:
        CursorInvalid: the cursor is not one that this function, or `list_iterations`, returned.
    """
    query = sa.select(IterationRow.id, IterationRow.number).order_by(IterationRow.number.desc())
    if since is not None:
        query = query.where(IterationRow.requested_at >= since)
    if until is not None:
        query = query.where(IterationRow.requested_at < until)
    if lineage is not None:
        query = query.where(IterationRow.lineage == lineage)
    if cursor is not None:
        query = query.where(IterationRow.number < number_of(cursor))
    rows = [(row.id, row.number) for row in session.execute(query.limit(limit + 1))]
    return rows[:limit], str(rows[limit - 1][1]) if len(rows) > limit else None


def unfinished(session: Session) -> list[IterationRow]:
    """Every iteration that is not over, in the order of their turns: those that have begun, then by number.

    A paused one keeps its place, and those of its lineage after it wait.
    """
    query = sa.select(IterationRow).where(IterationRow.state.in_(UNFINISHED))
    return list(session.scalars(query.order_by(IterationRow.started_at.is_(None), IterationRow.number)))


def turns(session: Session) -> list[IterationRow]:
    """Of every lineage the unfinished iteration whose turn it is; they may all be in work at once."""
    first: dict[str, IterationRow] = {}
    for row in unfinished(session):
        first.setdefault(row.lineage, row)
    return list(first.values())


def fail(session: Session, row: IterationRow, *, error_code: str, message: str, now: datetime) -> None:
    """End an iteration as failed, with the reason, and every run of it that is not over.

    Raises:
        IllegalMove: it is over already.
    """
    move(row, "failed", now=now)
    row.error_code, row.error_message = error_code, message
    phase_runs.cancel(session, row.id, now=now)


def cancel(session: Session, iteration_id: str, *, now: datetime) -> IterationRow:
    """End an iteration because somebody asked for it, and every run of it that is not over.

    Raises:
        RowMissing: there is none with this id.
        IllegalMove: it is over already.
    """
    row = get(session, iteration_id)
    move(row, "cancelled", now=now)
    phase_runs.cancel(session, iteration_id, now=now)
    return row


def _by_key(session: Session, key: str) -> IterationRow | None:
    return session.scalars(sa.select(IterationRow).where(IterationRow.idempotency_key == key)).one_or_none()


def _next_number(session: Session) -> int:
    highest = session.scalars(sa.select(sa.func.max(IterationRow.number))).one()
    return (highest or 0) + 1
