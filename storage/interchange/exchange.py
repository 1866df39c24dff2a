"""Records out of the store one at a time, and back into it: every episode wholly in, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from robot_bridge.errors import RobotBridgeError
from storage import episodes, labels
from storage.blobs import BlobStore
from storage.db import Database
from storage.errors import EpisodeConflict
from storage.interchange.errors import DatasetInvalid
from storage.interchange.record import SOURCE, Found, Record
from storage.interchange.seal import Seal, prepare, seal
from storage.labels import Verdict
from storage.tables import EpisodeRow, LabelRow

IMPORTED: Final = "imported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What an import found, and how much of it was new."""

    episodes: int
    frames: int
    added: int


@dataclass(frozen=True, slots=True)
class Store:
    """Where episodes are kept."""

    database: Database
    blobs: BlobStore


class Writer(Protocol):
    """How a format takes episodes: one after the other, then it is closed. The seal gets places and notes."""

    format: str
    places: dict[str, str]
    notes: dict[str, str]

    def add(self, record: Record) -> None: ...

    def close(self) -> None: ...


def take_out(store: Store, episode_id: str) -> Record:
    """One episode with its flag and its verdicts, read back verified.

    Raises:
        RowMissing, EpisodeCorrupt, BlobMissing, BlobCorrupt: as `episodes.load`.
    """
    with store.database.read() as session:
        row = episodes.get(session, episode_id)
        verdicts = tuple(_verdict_of(each) for each in labels.history(session, episode_id))
        episode = episodes.load(session, store.blobs, episode_id)
        return Record(episode=episode, held_out=row.held_out, verdicts=verdicts)


def send_out(
    store: Store,
    ids: Sequence[str],
    *,
    folder: Path,
    make: Callable[[Path], Writer],
    now: datetime,
    advance: Callable[[], None] | None = None,
) -> int:
    """Write episodes into an empty folder, one in memory at a time, and seal it; how many there are.

    Raises:
        TargetNotEmpty: the folder holds something.
        EpisodeUnfit: the format cannot hold an episode; what was written stays, unsealed.
    """
    prepare(folder)
    writer = make(folder)
    try:
        for episode_id in ids:
            writer.add(take_out(store, episode_id))
            if advance is not None:
                advance()
    finally:
        writer.close()
    seal(folder, Seal(format=writer.format, places=writer.places), notes=writer.notes, now=now)
    return len(ids)


def bring_in(
    store: Store,
    found: Iterable[Found],
    *,
    folder: Path,
    now: datetime,
    advance: Callable[[], None] | None = None,
) -> Intake:
    """Commit what is new, one transaction per episode; what is known already is not read again.

    Raises:
        DatasetInvalid: an episode breaks its format; those before it stay.
        EpisodeConflict: another recording has this id; it stays as it is.
        DiskFull: no room; episodes before stay.
    """
    seen = frames = added = 0
    for each in found:
        steps = _known(store.database, each)
        if steps is None:
            steps = _commit(store, each, folder=folder, now=now)
            added += 1
        seen, frames = seen + 1, frames + steps + 1
        if advance is not None:
            advance()
    return Intake(episodes=seen, frames=frames, added=added)


def _known(database: Database, found: Found) -> int | None:
    """T of an episode that came in before from this very source; None where there is none."""
    with database.read() as session:
        row = session.get(EpisodeRow, found.episode_id)
    if row is None:
        return None
    source = json.loads(row.manifest)["metadata"].get(SOURCE)
    if found.digest not in {row.manifest_sha256, source}:
        raise EpisodeConflict(episode_id=row.id, stored=row.manifest_sha256, found=found.digest)
    return row.steps


def _commit(store: Store, found: Found, *, folder: Path, now: datetime) -> int:
    try:
        record = found.read()
    except RobotBridgeError as error:
        what = f"episode {found.episode_id} whole"
        raise DatasetInvalid(path=folder, expected=what, found=str(error)) from error
    provenance = episodes.Provenance(origin=IMPORTED, held_out=record.held_out)
    with store.database.write() as session:
        row, created = episodes.commit(session, store.blobs, record.episode, provenance=provenance, now=now)
        if created:
            known = {_verdict_of(each) for each in labels.history(session, row.id)}
            for verdict in record.verdicts:
                if verdict not in known:
                    labels.append(session, row.id, verdict, now=now)
    return record.episode.manifest.T


def _verdict_of(row: LabelRow) -> Verdict:
    return Verdict(
        success=row.success,
        source=row.source,
        at=row.labelled_at,
        judge=row.judge,
        answer=row.answer,
        confidence=row.confidence,
    )
