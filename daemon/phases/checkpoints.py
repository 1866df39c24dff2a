"""Which checkpoints a phase starts from, and how it keeps the ones it makes.

The current checkpoint of a kind is the newest one that was brought in from outside or that a *finished* phase
run of the lineage made: what an attempt saved before it was killed stays, but nobody goes on from it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from sqlalchemy.orm import Session

from daemon.errors import AssetMissing
from daemon.learning.tensor_digest import tensors_digest
from daemon.phases.context import PhaseContext
from storage import checkpoints, manifests, phase_runs
from storage.adoption import adoptable
from storage.blobs import BlobStore
from storage.canonical import json_digest
from storage.db import Database
from storage.lineages import MAIN
from storage.tables import CheckpointRow

ASSETS = Path(__file__).parents[1] / "assets"


class Savable(Protocol):
    """A world model, a policy or a judge: one file with its card inside."""

    def save(self, path: Path, card: dict[str, Any], /) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a phase has to say about a checkpoint it made."""

    kind: str
    parent: CheckpointRow
    card: dict[str, Any]
    lineage: str = MAIN  # of what no iteration made; an iteration has its own
    episode_ids: Sequence[str] = field(default_factory=tuple)


def current(
    database: Database, blobs: BlobStore, kind: str, *, lineage: str, preset: str, now: datetime
) -> CheckpointRow:
    """The checkpoint of this kind to go on from; the preset's committed base when there is no other.

    Raises:
        AssetMissing: this installation has no base checkpoint of the preset.
        StorageError: the store cannot take or read it.
    """
    with database.read() as session:
        found = adoptable(session, kind, lineage=lineage)
    return found[0] if found else _register_base(database, blobs, kind, preset=preset, now=now)


def newest(context: PhaseContext, kind: str) -> CheckpointRow:
    """`current`, asked by a phase."""
    lineage, preset = context.spec.lineage, context.settings.preset
    return current(context.database, context.blobs, kind, lineage=lineage, preset=preset, now=context.now())


def origin_of(context: PhaseContext, row: CheckpointRow) -> CheckpointRow:
    """What a checkpoint descends from that no iteration made: brought in, or the committed base."""
    with context.database.read() as session:
        line = checkpoints.ancestry(session, row.id)
    return next((one for one in line if one.iteration_id is None and one.retired_at is None), row)


def bring_in(
    model: Savable, made: Made, *, database: Database, blobs: BlobStore, now: datetime
) -> CheckpointRow:
    """Keep what was made outside of any iteration, with its parent and the episodes it learned from.

    Raises:
        StorageError: the store cannot take it.
    """
    new = checkpoints.NewCheckpoint(
        kind=made.kind,
        spec_digest=json_digest(made.card, what="card"),
        card=made.card,
        parent_id=made.parent.id,
        lineage=made.lineage,
        episode_ids=tuple(made.episode_ids),
    )
    with TemporaryDirectory(prefix="gymnastd-") as folder:
        file = Path(folder) / f"{made.kind}.safetensors"
        model.save(file, made.card)
        with database.write() as session:
            return checkpoints.save(session, blobs, new, file=file, now=now)


def made_by(session: Session, iteration_id: str, *, phase: str, kind: str) -> CheckpointRow | None:
    """The checkpoint that this iteration's finished phase made, or None when it made none."""
    run = phase_runs.latest(session, iteration_id, phase=phase)
    made = (run.outcome or {}).get("made", {}) if run is not None and run.state == "finished" else {}
    return checkpoints.get(session, made[kind]) if kind in made else None


def keep(context: PhaseContext, model: Savable, made: Made) -> CheckpointRow:
    """Write the file, then the row, under this phase run's fence.

    Raises:
        LeaseLost: another worker has this phase run by now; the file is left to the sweep.
        DiskFull: nothing was kept.
    """
    file = context.work_dir / f"{made.kind}.safetensors"
    model.save(file, made.card)
    tensors = tensors_digest(file)
    new = checkpoints.NewCheckpoint(
        kind=made.kind,
        spec_digest=context.spec.digest(),
        card=made.card,
        parent_id=made.parent.id,
        iteration_id=context.iteration_id,
        episode_ids=tuple(made.episode_ids),
    )
    with context.database.write() as session:
        phase_runs.require_held(session, context.phase_run_id, fence=context.fence)
        row = checkpoints.save(session, context.blobs, new, file=file, now=context.now())
        manifests.note_tensors(session, row.id, tensors)
    return row


def _register_base(
    database: Database, blobs: BlobStore, kind: str, *, preset: str, now: datetime
) -> CheckpointRow:
    asset = ASSETS / preset / f"{kind}.safetensors"
    if not asset.is_file():
        raise AssetMissing(kind=kind, preset=preset, path=asset)
    card = json.loads((asset.parent / "card.json").read_text())
    new = checkpoints.NewCheckpoint(kind=kind, spec_digest=json_digest(card, what="card"), card=card)
    with TemporaryDirectory(prefix="gymnastd-") as folder:
        copy = Path(shutil.copy(asset, folder))  # the store moves the file away
        with database.write() as session:
            return checkpoints.save(session, blobs, new, file=copy, now=now)
