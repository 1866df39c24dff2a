"""Pictures that people brought for policy updates to start from: added, listed, removed, never changed."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.errors import RowMissing
from storage.world_tables import StartImageRow


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStartImage:
    """A picture that is a blob already, by its sha256."""

    task_id: str
    instruction: str
    sha256: str
    width: int
    height: int


def add(session: Session, new: NewStartImage, *, who: str, now: datetime) -> StartImageRow:
    row = StartImageRow(
        task_id=new.task_id,
        instruction=new.instruction,
        image={"sha256": new.sha256, "width": new.width, "height": new.height},
        added_by=who,
        added_at=now,
    )
    session.add(row)
    session.flush()
    return row


def get(session: Session, image_id: str) -> StartImageRow:
    """One that is there.

    Raises:
        RowMissing: there is none with this id, or it was removed.
    """
    row = session.get(StartImageRow, image_id)
    if row is None or row.image is None:
        raise RowMissing(kind="start image", row_id=image_id)
    return row


def present(session: Session, *, tasks: Collection[str] | None = None) -> list[StartImageRow]:
    """Those that are there, oldest first; of these tasks, or of all."""
    query = sa.select(StartImageRow).where(StartImageRow.removed_at.is_(None))
    if tasks is not None:
        query = query.where(StartImageRow.task_id.in_(tasks))
    return list(session.scalars(query.order_by(StartImageRow.added_at, StartImageRow.id)))


def remove(session: Session, row: StartImageRow, *, now: datetime) -> None:
    """Let go of the picture: the row stays, the blob goes with the next sweep."""
    row.image, row.removed_at = None, now
    session.flush()
