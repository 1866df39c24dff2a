"""Blobs that no row names: found folder by folder, so that a large store needs little memory, and removed.

A blob is named by a checkpoint, by an episode, or anywhere in JSON, as film strips are. Where most of a store
seems to be named by nobody, the database is not the one that belongs to it, and nothing is removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.blobs import BlobStore
from storage.errors import SweepRefused
from storage.retention import mentioned
from storage.tables import CheckpointRow, EpisodeBlobRow

FEW = 100  # so many may go whatever their share is
LARGEST_SHARE = 0.5  # of a store's old blobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep looked at and removed."""

    seen: int
    removed: tuple[str, ...]


def sweep_blobs(session: Session, blobs: BlobStore, *, older_than_s: float, now: datetime) -> Swept:
    """Remove what no row names and is old enough for its row not to be on its way.

    Raises:
        SweepRefused: most of the store would go; nothing was removed.
    """
    elsewhere = mentioned(session)
    seen, unnamed = 0, []
    for folder in blobs.old(older_than_s=older_than_s, now=now):
        named = _named(session, folder) | elsewhere
        seen += len(folder)
        unnamed += [sha256 for sha256 in folder if sha256 not in named]
    require_its_own(blobs, unnamed=len(unnamed), seen=seen)
    return Swept(seen=seen, removed=tuple(blobs.remove(unnamed, older_than_s=older_than_s, now=now)))


def require_its_own(blobs: BlobStore, *, unnamed: int, seen: int) -> None:
    """Look whether the database can be the one that belongs to a store, by how many blobs it does not know.

    Raises:
        SweepRefused: most of them.
    """
    if unnamed > max(FEW, LARGEST_SHARE * seen):
        raise SweepRefused(unnamed=unnamed, seen=seen, path=blobs.root)


def _named(session: Session, digests: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for column in (CheckpointRow.sha256, EpisodeBlobRow.sha256):
        found.update(session.scalars(sa.select(column).where(column.in_(digests))))
    return found
