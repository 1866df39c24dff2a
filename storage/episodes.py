"""Recorded real runs: committed once, read back verified, listed.

Blobs go to disk first, the row last: an episode that has a row is whole. Which episodes a training takes is
the business of `replay`, what judges say of them that of `labels`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from robot_bridge.episode import FRAMES_BLOB, STEPS_BLOB, Episode, Manifest, episode_of_bytes
from robot_bridge.frames import FrameBlob
from storage import labels, station_health, stations, tasks
from storage.blobs import BlobStore
from storage.db import serialise
from storage.errors import (
    CursorInvalid,
    EpisodeConflict,
    EpisodeCorrupt,
    EpisodeOriginInvalid,
    NotJson,
    Retired,
    RowMissing,
    UnknownTask,
)
from storage.labels import effective_label
from storage.tables import EpisodeBlobRow, EpisodeRow

__all__ = [
    "ORIGINS",
    "Provenance",
    "blob_digests",
    "commit",
    "effective_label",
    "frames",
    "get",
    "list_episodes",
    "load",
]

ORIGINS: Final = ("collect", "imported", "base")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where an episode comes from and what it is for; the manifest knows nothing of this.

    `checkpoint_id` is the policy that acted. A held-out episode is kept from training, to measure with.
    With `register_task` off, a task that nobody registered is refused.
    """

    origin: str
    iteration_id: str | None = None
    checkpoint_id: str | None = None
    held_out: bool = False
    register_task: bool = True


def commit(
    session: Session, blobs: BlobStore, episode: Episode, *, provenance: Provenance, now: datetime
) -> tuple[EpisodeRow, bool]:
    """Keep an episode and the verdicts of its manifest. The same episode twice is one episode.

    Returns:
        The row, and whether it is new.

    Raises:
        EpisodeInvalid: (of robot_bridge) manifest, arrays and pictures do not fit each other.
        EpisodeOriginInvalid: not one of ORIGINS.
        EpisodeConflict: another recording has this id; it stays as it is.
        UnknownTask: the task is not registered and should have been.
        DiskFull: nothing was kept.
    """
    episode.validate()
    manifest = episode.manifest
    if provenance.origin not in ORIGINS:
        raise EpisodeOriginInvalid(origin=provenance.origin, known=ORIGINS)
    text = _manifest_text(manifest)
    parts = {STEPS_BLOB: episode.steps.to_npz(), FRAMES_BLOB: episode.frames.data}
    kept = {name: (blobs.put(content), len(content)) for name, content in parts.items()}  # files first

    serialise(session, "episodes")
    before = session.get(EpisodeRow, manifest.episode_id)
    if before is not None:
        if before.manifest_sha256 != episode.digest:
            raise EpisodeConflict(episode_id=before.id, stored=before.manifest_sha256, found=episode.digest)
        return before, False
    stations.ensure(session, manifest.station_id, now=now)
    _ensure_task(session, manifest, register=provenance.register_task, now=now)
    row = _row(manifest, text, provenance=provenance, now=now)
    session.add(row)
    session.flush()
    for name, (sha256, size) in kept.items():
        session.add(EpisodeBlobRow(episode_id=row.id, name=name, sha256=sha256, size_bytes=size))
    if row.origin == "collect":
        station_health.keep(session, episode)
    labels.append_all(session, row.id, _verdicts(manifest), now=now)
    return row, True


def get(session: Session, episode_id: str) -> EpisodeRow:
    """One episode's row.

    Raises:
        RowMissing: there is none with this id.
    """
    row = session.get(EpisodeRow, episode_id)
    if row is None:
        raise RowMissing(kind="episode", row_id=episode_id)
    return row


def load(session: Session, blobs: BlobStore, episode_id: str) -> Episode:
    """A whole episode, every byte of it checked against what was committed.

    Raises:
        RowMissing: there is none with this id.
        Retired: its files were let go.
        EpisodeCorrupt: the stored manifest changed.
        BlobMissing, BlobCorrupt: a file is gone or changed.
    """
    row = _with_files(session, episode_id)
    text = row.manifest.encode()
    found = hashlib.sha256(text).hexdigest()
    if found != row.manifest_sha256:
        raise EpisodeCorrupt(episode_id=row.id, stored=row.manifest_sha256, found=found)
    digests = blob_digests(session, episode_id)
    return episode_of_bytes(
        text, steps=blobs.read(digests[STEPS_BLOB]), frames=blobs.read(digests[FRAMES_BLOB])
    )


def frames(session: Session, blobs: BlobStore, episode_id: str) -> FrameBlob:
    """The pictures of an episode alone; any one of them can be decoded without the others.

    Raises:
        RowMissing: there is none with this id.
        Retired: its files were let go.
        BlobMissing, BlobCorrupt: the file is gone or changed.
    """
    _with_files(session, episode_id)
    return FrameBlob(blobs.read(blob_digests(session, episode_id)[FRAMES_BLOB]))


def blob_digests(session: Session, episode_id: str) -> dict[str, str]:
    """Which blob holds which part: name to sha256."""
    query = sa.select(EpisodeBlobRow).where(EpisodeBlobRow.episode_id == episode_id)
    return {row.name: row.sha256 for row in session.scalars(query)}


def list_episodes(
    session: Session,
    *,
    iteration_id: str | None = None,
    which: Sequence[sa.ColumnElement[bool]] = (),
    cursor: str | None = None,
    limit: int = 50,
) -> tuple[list[EpisodeRow], str | None]:
    """A page of episodes, newest first, and the cursor of the page after it, if there is one.

    `which` are more conditions, see `episode_filter`.

    Raises:
        CursorInvalid: the cursor is not one that this function returned.
    """
    order = EpisodeRow.committed_at.desc(), EpisodeRow.id.desc()
    query = sa.select(EpisodeRow.id).where(*which).order_by(*order).limit(limit + 1)
    if iteration_id is not None:
        query = query.where(EpisodeRow.iteration_id == iteration_id)
    if cursor is not None:
        committed_at, episode_id = _place_of(cursor)
        place = sa.tuple_(EpisodeRow.committed_at, EpisodeRow.id)
        query = query.where(
            place < sa.tuple_(sa.literal(committed_at, EpisodeRow.committed_at.type), episode_id)
        )
    found = query.subquery()  # ids alone are sorted: with their manifests, rows of a year take three times
    rows = list(
        session.scalars(sa.select(EpisodeRow).join(found, found.c.id == EpisodeRow.id).order_by(*order))
    )
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], f"{last.committed_at.isoformat()}~{last.id}"


def _with_files(session: Session, episode_id: str) -> EpisodeRow:
    row = get(session, episode_id)
    if row.retired_at is not None:
        raise Retired(what=f"episode {row.id}", at=row.retired_at)
    return row


def _manifest_text(manifest: Manifest) -> str:
    text = manifest.canonical_json().decode()
    if "\\u0000" in text:  # PostgreSQL keeps no NUL in text
        raise NotJson(
            what=f"the manifest of episode {manifest.episode_id}", reason="it holds a NUL character"
        )
    return text


def _ensure_task(session: Session, manifest: Manifest, *, register: bool, now: datetime) -> None:
    if register:
        tasks.ensure(session, manifest.task_id, instruction=manifest.instruction, now=now)
    elif tasks.find(session, manifest.task_id) is None:
        raise UnknownTask(task_id=manifest.task_id, episode_id=manifest.episode_id)


def _row(manifest: Manifest, text: str, *, provenance: Provenance, now: datetime) -> EpisodeRow:
    return EpisodeRow(
        id=manifest.episode_id,
        station_id=manifest.station_id,
        task_id=manifest.task_id,
        iteration_id=provenance.iteration_id,
        checkpoint_id=provenance.checkpoint_id,
        origin=provenance.origin,
        held_out=provenance.held_out,
        instruction=manifest.instruction,
        steps=manifest.T,
        outcome=manifest.outcome,
        valid_for_policy_eval=manifest.valid_for.policy_eval,
        valid_for_world_model=manifest.valid_for.world_model,
        manifest=text,
        manifest_sha256=hashlib.sha256(text.encode()).hexdigest(),
        started_at=manifest.started_at,
        ended_at=manifest.ended_at,
        committed_at=now,
    )


def _verdicts(manifest: Manifest) -> list[labels.Verdict]:
    return [
        labels.Verdict(
            success=label.success, source=label.source, at=label.at, judge=label.judge, answer=label.answer
        )
        for label in manifest.labels
    ]


def _place_of(cursor: str) -> tuple[datetime, str]:
    instant, separator, episode_id = cursor.partition("~")
    try:
        committed_at = datetime.fromisoformat(instant)
    except ValueError as error:
        raise CursorInvalid(cursor=cursor) from error
    if not separator or committed_at.tzinfo is None:
        raise CursorInvalid(cursor=cursor)
    return committed_at, episode_id
