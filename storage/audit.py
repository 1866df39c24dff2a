"""Who did what to which thing, when: a list that only grows."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.canonical import as_json
from storage.cursors import number_of
from storage.tables import AuditEventRow


def write(
    session: Session, actor: str, *, action: str, subject: str, facts: Mapping[str, Any], now: datetime
) -> AuditEventRow:
    """Note one act; it is kept if, and only if, the transaction of the act is.

    Raises:
        NotJson: the facts hold something that JSON cannot.
    """
    row = AuditEventRow(
        at=now,
        actor=actor,
        action=action,
        subject=subject,
        facts=as_json(facts, what=f"the facts of {action} on {subject}"),
    )
    session.add(row)
    session.flush()
    return row


def read(session: Session, *, subject: str | None = None, limit: int = 100) -> list[AuditEventRow]:
    """The latest acts, newest first, of one subject or of all."""
    query = sa.select(AuditEventRow).order_by(AuditEventRow.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(AuditEventRow.subject == subject)
    return list(session.scalars(query))


def list_acts(
    session: Session,
    *,
    actor: str | None = None,
    subject: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> tuple[list[AuditEventRow], str | None]:
    """A page of acts, newest first, by one actor or all, and the cursor of the page after it.

    Raises:
        CursorInvalid: the cursor is not one that this function returned.
    """
    query = sa.select(AuditEventRow).order_by(AuditEventRow.id.desc()).limit(limit + 1)
    if actor is not None:
        query = query.where(AuditEventRow.actor == actor)
    if subject is not None:
        query = query.where(AuditEventRow.subject == subject)
    if cursor is not None:
        query = query.where(AuditEventRow.id < number_of(cursor, digits=18))
    rows = list(session.scalars(query))
    return rows[:limit], str(rows[limit - 1].id) if len(rows) > limit else None
