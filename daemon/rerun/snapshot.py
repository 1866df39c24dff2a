"""A store that holds exactly what one phase run read, made from its manifest and the store of then.

Everything is read from the store and nothing is written there; the copy is a SQLite file with blobs beside
it, whatever database the store has. Episodes have the labels that they had, and no others; of every kind
there is the one checkpoint that was read, so that the phase finds it as it found it then.
"""

from __future__ import annotations

import shutil
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.iteration_manifest import inputs_of
from daemon.rerun.errors import SnapshotChanged
from storage import labels
from storage.blobs import BlobStore
from storage.canonical import json_digest, text_digest
from storage.columns import Row
from storage.db import Database, default_url
from storage.errors import BlobCorrupt
from storage.manifests import KeptManifest
from storage.tables import (
    CheckpointRow,
    EpisodeBlobRow,
    EpisodeRow,
    IterationRow,
    LabelRow,
    PhaseRunRow,
    StationRow,
    TaskRow,
    TrustReportRow,
)
from storage.world_tables import StartImageRow

Copied = TypeVar("Copied", bound=Row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A database and its blobs."""

    database: Database
    blobs: BlobStore


def snapshot(source: Store, kept: KeptManifest, *, folder: Path) -> Store:
    """Make the store that the phase run saw.

    Args:
        folder: gets the database and the blobs.

    Raises:
        SnapshotChanged: something is gone, or is not what it was; all of it is named.
        BlobMissing, BlobCorrupt: a file of it is gone, or altered.
    """
    made = Store(database=Database(default_url(folder)), blobs=BlobStore(folder / "blobs"))
    made.database.upgrade()
    inputs = inputs_of(kept)
    with source.database.read() as old, made.database.write() as new:
        faults = _text_faults(kept) + Copy(old, new, inputs=inputs).everything(kept)
        sha256s = [
            *(entry["sha256"] for entry in inputs.get("start_images", ())),
            *new.scalars(sa.select(EpisodeBlobRow.sha256)),
            *new.scalars(sa.select(CheckpointRow.sha256)),
        ]
    if faults:
        made.database.dispose()
        number = inputs["iteration"]["number"]
        raise SnapshotChanged(number=number, phase=kept.run.phase, faults=faults)
    for sha256 in dict.fromkeys(sha256s):
        _copy_blob(source.blobs, made.blobs, sha256)
    return made


class Copy:
    """Copies rows from one session to another, and notes what is not as the manifest says."""

    def __init__(self, old: Session, new: Session, *, inputs: Mapping[str, Any]) -> None:
        self._old, self._new, self._inputs = old, new, inputs
        self._faults: list[str] = []

    def everything(self, kept: KeptManifest) -> list[str]:
        """Copy all that the manifest names; what was not as it says."""
        iteration = self._iteration()
        self._episodes(iteration)
        self._labels()
        self._checkpoints()
        self._start_images()
        self._measured(kept)
        return self._faults

    def _iteration(self) -> IterationRow:
        row = self._old.get_one(IterationRow, self._inputs["iteration"]["id"])
        found = json_digest(row.spec, what="the spec")
        if found != self._inputs["spec_digest"]:
            self._faults.append(
                f"spec of iteration {row.number}: {self._inputs['spec_digest']} then, {found} now"
            )
        self._add([row], state="running", finished_at=None, error_code=None, error_message=None)
        return row

    def _episodes(self, iteration: IterationRow) -> None:
        wanted = {entry["id"]: entry["sha256"] for entry in self._inputs["episodes"]}
        rows = self._rows(EpisodeRow, EpisodeRow.id, wanted)
        found = {row.id: row.manifest_sha256 for row in rows}
        self._faults += [
            f"episode {name}: {sha256} then, {found.get(name, 'none')} now"
            for name, sha256 in wanted.items()
            if found.get(name) != sha256
        ]
        self._add(self._rows(StationRow, StationRow.id, {row.station_id for row in rows}))
        self._add(self._rows(TaskRow, TaskRow.id, {row.task_id for row in rows}))
        others = {row.iteration_id for row in rows if row.iteration_id} - {iteration.id}
        self._add(self._rows(IterationRow, IterationRow.id, others))
        self._add(rows, keep=("iteration_id",), retired_at=None)
        self._add(self._rows(EpisodeBlobRow, EpisodeBlobRow.episode_id, found))

    def _labels(self) -> None:
        entries = {entry["id"]: entry for entry in self._inputs["episodes"]}
        wanted = [label_id for entry in entries.values() for label_id in entry["labels"]]
        self._add(self._rows(LabelRow, LabelRow.id, wanted))
        counts = labels.effective_labels(self._new, entries)
        for name, entry in entries.items():
            found = counts[name].success if name in counts else None
            if found != entry["success"]:
                self._faults.append(f"label of episode {name}: {entry['success']} then, {found} now")

    def _checkpoints(self) -> None:
        """As if they had been brought in from outside, so that they are what is gone on from."""
        wanted = {entry["id"]: entry["sha256"] for entry in self._inputs["checkpoints"].values()}
        rows = self._rows(CheckpointRow, CheckpointRow.id, wanted)
        found = {row.id: row.sha256 for row in rows}
        self._faults += [
            f"checkpoint {name}: {sha256} then, {found.get(name, 'none')} now"
            for name, sha256 in wanted.items()
            if found.get(name) != sha256
        ]
        self._add(rows, card={}, retired_at=None)
        if "world_model_base" in self._inputs["checkpoints"]:
            self._descent()

    def _descent(self) -> None:
        """The current world model descends from the one that is taught, and an iteration made it."""
        read = self._inputs["checkpoints"]
        current, base = (read[kind]["id"] for kind in ("world_model", "world_model_base"))
        made_in = self._old.get_one(CheckpointRow, current).iteration_id
        if self._new.get(IterationRow, made_in) is None:
            self._add(self._rows(IterationRow, IterationRow.id, [made_in]))
        runs = self._rows(PhaseRunRow, PhaseRunRow.iteration_id, [made_in])
        self._add([run for run in runs if (run.outcome or {}).get("made", {}).get("world_model") == current])
        copy = self._new.get_one(CheckpointRow, current)
        copy.parent_id, copy.iteration_id = base, made_in
        self._new.flush()

    def _start_images(self) -> None:
        """Pictures that people brought, as they were described then; a removed one is told."""
        wanted = {entry["id"]: entry for entry in self._inputs.get("start_images", ())}
        rows = self._rows(StartImageRow, StartImageRow.id, wanted)
        found = {row.id: row.image["sha256"] for row in rows if row.image is not None}
        self._faults += [
            f"start image {name}: {entry['sha256']} then, {found.get(name, 'none')} now"
            for name, entry in wanted.items()
            if found.get(name) != entry["sha256"]
        ]
        self._add(rows)

    def _measured(self, kept: KeptManifest) -> None:
        """What an update asks for: how the finetuning before it ended, how far its world model is trusted."""
        if kept.run.phase != "update_policy":
            return
        here = PhaseRunRow.iteration_id == kept.run.iteration_id
        before = sa.select(PhaseRunRow).where(here, PhaseRunRow.phase == "finetune_world_model")
        self._add(self._old.scalars(before.where(PhaseRunRow.state == "finished")).all())
        world_model = self._inputs["checkpoints"]["world_model"]["id"]
        reports = sa.select(TrustReportRow).where(
            TrustReportRow.checkpoint_id == world_model,
            TrustReportRow.measured_at <= kept.manifest.written_at,
        )
        self._add(self._old.scalars(reports).all())

    def _rows(self, kind: type[Copied], column: Any, wanted: Iterable[Any]) -> list[Copied]:
        return list(self._old.scalars(sa.select(kind).where(column.in_(list(wanted)))))

    def _add(self, rows: Iterable[Row], *, keep: Container[str] = (), **changed: Any) -> None:
        """Copies of rows. Where a row may point at nothing it does, but for `keep`: little else is copied."""
        for row in rows:
            values = {
                name: getattr(row, name) if name in keep or not _may_point_at_nothing(column) else None
                for name, column in sa.inspect(type(row)).columns.items()
            }
            self._new.add(type(row)(**{**values, **changed}))
        self._new.flush()


def _may_point_at_nothing(column: sa.Column[Any]) -> bool:
    return bool(column.foreign_keys) and bool(column.nullable)


def _text_faults(kept: KeptManifest) -> list[str]:
    found = text_digest(kept.manifest.content)
    stored = kept.manifest.sha256
    return [] if found == stored else [f"the manifest itself: {stored} then, {found} now"]


def _copy_blob(source: BlobStore, target: BlobStore, sha256: str) -> None:
    """A copy and no link: whatever becomes of the rerun's folder, the store keeps its own."""
    with TemporaryDirectory(dir=target.root, prefix="copy-") as folder:
        copy = Path(shutil.copyfile(source.path(sha256), Path(folder) / sha256))
        found = target.put_file(copy)
    if found != sha256:
        raise BlobCorrupt(sha256=sha256, found=found, path=source.path(sha256))
