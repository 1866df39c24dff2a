"""Whether the counts of success have changed, without reading them."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.db import serialise
from storage.success_tables import SuccessCountMarkRow


def changes(session: Session) -> int:
    """How often the counts were changed. Two that are equal have no change between them."""
    return session.scalar(sa.select(SuccessCountMarkRow.changes)) or 0


def begin_change(session: Session) -> None:
    """Let one transaction at a time change the counts, and raise the mark with it."""
    serialise(session, "success_counts")
    mark = SuccessCountMarkRow
    raised = session.execute(sa.update(mark).values(changes=mark.changes + 1).returning(mark.changes))
    if raised.scalar() is None:
        session.execute(sa.insert(mark).values(id=1, changes=1))
