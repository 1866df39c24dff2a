"""Saved states of world models, policies and judges: kept once, numbered, each with its parent.

The file is a blob; what is in it is the business of `daemon.learning.state`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.blobs import BlobStore
from storage.canonical import as_json
from storage.db import serialise
from storage.errors import CheckpointCorrupt, CheckpointKindInvalid, CursorInvalid, Retired, RowMissing
from storage.tables import CheckpointEpisodeRow, CheckpointRow, IterationRow

KINDS: Final = ("world_model", "policy", "judge")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCheckpoint:
    """What is known of a checkpoint beside its file.

    `spec_digest` says how it was made, `card` what was measured, `episode_ids` what it learned from. Its
    lineage is that of its iteration; for what is of no iteration, `lineage` None means that any may go on
    from it.
    """

    kind: str
    spec_digest: str
    card: Mapping[str, Any] = field(default_factory=dict)
    parent_id: str | None = None
    iteration_id: str | None = None
    lineage: str | None = None
    episode_ids: Sequence[str] = ()


def save(
    session: Session, blobs: BlobStore, new: NewCheckpoint, *, file: Path, now: datetime
) -> CheckpointRow:
    """Move a file into the blobs and give it the next number of its kind.

    Raises:
        CheckpointKindInvalid: not one of KINDS; the file stays where it is.
        NotJson: the card holds something that JSON cannot; the file stays where it is.
        DiskFull: nothing was kept; the file stays where it is.
        RowMissing: the parent does not exist.
    """
    _require_kind(new.kind)
    card = as_json(new.card, what=f"the card of a {new.kind} checkpoint")
    size = file.stat().st_size
    sha256 = blobs.put_file(file)  # file first

    serialise(session, f"checkpoints:{new.kind}")
    if new.parent_id is not None:
        get(session, new.parent_id)
    row = CheckpointRow(
        kind=new.kind,
        number=_next_number(session, new.kind),
        parent_id=new.parent_id,
        iteration_id=new.iteration_id,
        lineage=_lineage(session, new),
        sha256=sha256,
        size_bytes=size,
        spec_digest=new.spec_digest,
        card=card,
        created_at=now,
    )
    session.add(row)
    session.flush()
    for episode_id in dict.fromkeys(new.episode_ids):
        session.add(CheckpointEpisodeRow(checkpoint_id=row.id, episode_id=episode_id))
    session.flush()
    return row


def get(session: Session, checkpoint_id: str) -> CheckpointRow:
    """One checkpoint's row.

    Raises:
        RowMissing: there is none with this id.
    """
    row = session.get(CheckpointRow, checkpoint_id)
    if row is None:
        raise RowMissing(kind="checkpoint", row_id=checkpoint_id)
    return row


def latest(session: Session, kind: str, *, lineage: str | None = None) -> CheckpointRow | None:
    """The checkpoint of this kind with the highest number, or None before the first.

    Args:
        lineage: only what may be of it.

    Raises:
        CheckpointKindInvalid: not one of KINDS.
    """
    _require_kind(kind)
    query = sa.select(CheckpointRow).where(CheckpointRow.kind == kind)
    if lineage is not None:
        query = query.where(may_be_of(lineage))
    return session.scalars(query.order_by(CheckpointRow.number.desc()).limit(1)).one_or_none()


def path(row: CheckpointRow, blobs: BlobStore) -> Path:
    """Where the checkpoint's file lies; the whole file was read and checked.

    Raises:
        Retired: its file was let go.
        BlobMissing: there is no file.
        CheckpointCorrupt: it is not the file that was saved.
    """
    if row.retired_at is not None:
        raise Retired(what=f"{row.kind} checkpoint {row.id}", at=row.retired_at)
    place = blobs.path(row.sha256)
    found = blobs.found_digest(row.sha256)
    if found != row.sha256:
        raise CheckpointCorrupt(checkpoint_id=row.id, stored=row.sha256, found=found, path=place)
    return place


def ancestry(session: Session, checkpoint_id: str, *, limit: int | None = None) -> list[CheckpointRow]:
    """The checkpoint, its parent, the parent's parent, … to the first, or `limit` of them, in one query.

    Raises:
        RowMissing: there is none with this id.
    """
    line = _line(checkpoint_id)
    query = sa.select(CheckpointRow).join(line, line.c.id == CheckpointRow.id)
    rows = list(session.scalars(query.order_by(line.c.place).limit(limit)))
    return rows or [get(session, checkpoint_id)]


def generations(session: Session, checkpoint_id: str) -> int:
    """How many checkpoints `ancestry` would give; 0 where there is none with this id."""
    return session.scalars(sa.select(sa.func.count()).select_from(_line(checkpoint_id))).one()


def children(session: Session, checkpoint_ids: Collection[str]) -> list[CheckpointRow]:
    """Everything that was made of these checkpoints, the highest number first."""
    query = sa.select(CheckpointRow).where(CheckpointRow.parent_id.in_(checkpoint_ids))
    return list(session.scalars(query.order_by(CheckpointRow.number.desc())))


def episode_ids(session: Session, checkpoint_id: str) -> list[str]:
    """Which episodes the checkpoint learned from, sorted."""
    query = sa.select(CheckpointEpisodeRow.episode_id)
    return sorted(session.scalars(query.where(CheckpointEpisodeRow.checkpoint_id == checkpoint_id)))


def list_checkpoints(
    session: Session,
    *,
    kind: str | None = None,
    lineage: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> tuple[list[CheckpointRow], str | None]:
    """A page of checkpoints, newest first, and the cursor of the page after it, if there is one.

    Args:
        lineage: those that an iteration of it could go on from; what is anybody's is among them.

    Raises:
        CheckpointKindInvalid: not one of KINDS.
        CursorInvalid: the cursor is not one that this function returned.
    """
    query = sa.select(CheckpointRow).order_by(CheckpointRow.number.desc(), CheckpointRow.kind)
    if kind is not None:
        _require_kind(kind)
        query = query.where(CheckpointRow.kind == kind)
    if lineage is not None:
        query = query.where(may_be_of(lineage))
    if cursor is not None:
        number, last_kind = _place_of(cursor)
        same = sa.and_(CheckpointRow.number == number, CheckpointRow.kind > last_kind)
        query = query.where(sa.or_(CheckpointRow.number < number, same))
    rows = list(session.scalars(query.limit(limit + 1)))
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], f"{rows[limit - 1].number}~{rows[limit - 1].kind}"


def may_be_of(lineage: str) -> sa.ColumnElement[bool]:
    """The condition that a checkpoint is a lineage's, or anybody's."""
    return sa.or_(CheckpointRow.lineage.is_(None), CheckpointRow.lineage == lineage)


def _line(checkpoint_id: str) -> sa.CTE:
    """Ids of a checkpoint and those before it, each with its place; the checkpoint's own is 0."""
    parent, row = sa.orm.aliased(CheckpointRow), CheckpointRow
    first = sa.select(row.id, row.parent_id, sa.literal(0).label("place")).where(row.id == checkpoint_id)
    line = first.cte("line", recursive=True)
    before = sa.select(parent.id, parent.parent_id, line.c.place + 1)
    return line.union_all(before.join(line, parent.id == line.c.parent_id))


def _lineage(session: Session, new: NewCheckpoint) -> str | None:
    if new.iteration_id is None:
        return new.lineage
    return session.scalars(sa.select(IterationRow.lineage).where(IterationRow.id == new.iteration_id)).one()


def _require_kind(kind: str) -> None:
    if kind not in KINDS:
        raise CheckpointKindInvalid(kind=kind, known=KINDS)


def _next_number(session: Session, kind: str) -> int:
    query = sa.select(sa.func.max(CheckpointRow.number)).where(CheckpointRow.kind == kind)
    return (session.scalars(query).one() or 0) + 1


def _place_of(cursor: str) -> tuple[int, str]:
    number, _, kind = cursor.partition("~")
    if not (number.isascii() and number.isdigit() and len(number) <= 9) or kind not in KINDS:
        raise CursorInvalid(cursor=cursor)
    return int(number), kind
