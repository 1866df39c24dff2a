"""What the robot can be asked to do."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.db import serialise
from storage.tables import TaskRow


def ensure(session: Session, task_id: str, *, instruction: str, now: datetime) -> TaskRow:
    """Register a task; one that is known keeps its first instruction."""
    serialise(session, "tasks")
    row = session.get(TaskRow, task_id)
    if row is None:
        row = TaskRow(id=task_id, instruction=instruction, registered_at=now)
        session.add(row)
        session.flush()
    return row


def find(session: Session, task_id: str) -> TaskRow | None:
    """One task, or None when nobody registered it."""
    return session.get(TaskRow, task_id)


def list_tasks(session: Session) -> list[TaskRow]:
    """Every task, by name."""
    return list(session.scalars(sa.select(TaskRow).order_by(TaskRow.id)))
