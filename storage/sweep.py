"""Blobs that no row names: found folder by folder, so that a large store needs little memory, and removed.

A blob is named by a checkpoint, by an episode, by what a phase left in its outcome (film strips), by a
what-if, or by a picture that somebody brought. Where most of a store seems to be named by nobody, the
database is not the one that belongs to it, and nothing is removed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.blobs import BlobStore
from storage.errors import SweepRefused
from storage.tables import CheckpointRow, EpisodeBlobRow, PhaseRunRow
from storage.world_tables import StartImageRow, WhatIfRow

DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
FEW = 100  # so many may go whatever their share is
LARGEST_SHARE = 0.5  # of a store's old blobs
ROWS_AT_ONCE = 200  # outcomes in memory
MENTIONING = (PhaseRunRow.outcome, WhatIfRow.request, WhatIfRow.result, StartImageRow.image)


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
    elsewhere = set(_mentioned(session))
    seen, unnamed = 0, []
    for folder in blobs.old(older_than_s=older_than_s, now=now):
        named = _named(session, folder) | elsewhere
        seen += len(folder)
        unnamed += [sha256 for sha256 in folder if sha256 not in named]
    if len(unnamed) > max(FEW, LARGEST_SHARE * seen):
        raise SweepRefused(unnamed=len(unnamed), seen=seen, path=blobs.root)
    return Swept(seen=seen, removed=tuple(blobs.remove(unnamed, older_than_s=older_than_s, now=now)))


def _named(session: Session, digests: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for column in (CheckpointRow.sha256, EpisodeBlobRow.sha256):
        found.update(session.scalars(sa.select(column).where(column.in_(digests))))
    return found


def _mentioned(session: Session) -> Iterator[str]:
    """Every digest that a JSON column holds, wherever it holds it."""
    for column in MENTIONING:
        query = sa.select(sa.cast(column, sa.Text)).where(column.is_not(None))
        for text in session.scalars(query.execution_options(yield_per=ROWS_AT_ONCE)):
            yield from DIGEST.findall(text)
