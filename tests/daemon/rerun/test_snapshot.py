"""The store that a phase saw, made again: what is in it, what is not, and how changes since are noticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from daemon.iteration_manifest import inputs_of
from daemon.phases.manifest import checkpoint_entry, episode_entries
from daemon.rerun.errors import ManifestMissing, SnapshotChanged
from daemon.rerun.plan import differences, learning_phases, threads_of
from daemon.rerun.snapshot import Store, snapshot
from daemon.spec import parse_spec
from storage import (
    checkpoints,
    episodes,
    iterations,
    labels,
    manifests,
    phase_runs,
    replay,
    start_images,
    trust_reports,
)
from storage.blobs import BlobStore
from storage.canonical import canonical_json, text_digest
from storage.db import Database
from storage.errors import BlobCorrupt, BlobMissing
from storage.manifest_tables import PhaseManifestRow
from storage.tables import CheckpointRow, EpisodeRow, IterationRow, PhaseRunRow, TrustReportRow
from tests.daemon.conftest import build_episode

NOW = datetime.fromisoformat("2026-01-01T12:00:00+00:00")
LATER = NOW + timedelta(hours=1)


class Past:
    """A store in which iteration 1 learned from episodes 1, 2 (its own) and 3 (an older one)."""

    def __init__(self, database: Database, blobs: BlobStore, folder: Path) -> None:
        self.store, self.folder = Store(database=database, blobs=blobs), folder
        with database.write() as session:
            for spec in ({"seed": 1}, {"seed": 2}):
                document = parse_spec(spec).document()
                iterations.request_iteration(session, spec=document, idempotency_key=None, now=NOW)
        self.older, self.iteration = self.iteration_ids()
        self.policy = self.checkpoint("policy", b"policy")
        self.world_model = self.checkpoint("world_model", b"world model")
        for number, iteration_id in ((1, self.iteration), (2, self.iteration), (3, self.older)):
            self.episode(number, iteration_id)

    def iteration_ids(self) -> list[str]:
        with self.store.database.read() as session:
            return list(session.scalars(sa.select(IterationRow.id).order_by(IterationRow.number)))

    def checkpoint(self, kind: str, content: bytes) -> CheckpointRow:
        file = self.folder / kind
        file.write_bytes(content)
        new = checkpoints.NewCheckpoint(
            kind=kind, spec_digest="0" * 64, iteration_id=self.older, card={"candidate": True}
        )
        with self.store.database.write() as session:
            return checkpoints.save(session, self.store.blobs, new, file=file, now=NOW)

    def episode(self, number: int, iteration_id: str, *, held_out: bool = False) -> EpisodeRow:
        provenance = episodes.Provenance(
            origin="collect", iteration_id=iteration_id, checkpoint_id=self.policy.id, held_out=held_out
        )
        with self.store.database.write() as session:
            return episodes.commit(
                session, self.store.blobs, build_episode(number), provenance=provenance, now=NOW
            )[0]

    def judged(self, episode_id: str, success: bool) -> None:
        verdict = labels.Verdict(success=success, source="human", at=LATER)
        with self.store.database.write() as session:
            labels.append(session, episode_id, verdict, now=LATER)

    def trusted(self, horizon: int, at: datetime) -> None:
        new = trust_reports.NewTrustReport(
            checkpoint_id=self.world_model.id,
            iteration_id=self.iteration,
            verdict="measured",
            episodes=1,
            horizon=horizon,
            agreement=None,
            optimism=None,
            sensitivity=None,
            report={},
        )
        with self.store.database.write() as session:
            trust_reports.save(session, new, now=at)

    def did(self, phase: str = "finetune_world_model", **changes: Any) -> manifests.KeptManifest:
        """Let a phase have read all of it, and finish it."""
        with self.store.database.write() as session:
            row = iterations.get(session, self.iteration)
            run = phase_runs.queue(session, row, phase=phase, now=NOW)
            content = {
                "phase": phase,
                "iteration": {"id": row.id, "number": row.number},
                "spec_digest": row.spec_digest,
                "environment": {"threads": 3},
                "checkpoints": {
                    kept.kind: checkpoint_entry(kept) for kept in (self.policy, self.world_model)
                },
                "episodes": episode_entries(
                    session, {"fresh": replay.select(session, replay.EpisodeQuery())}
                ),
                **changes,
            }
            manifests.save(session, run.id, content, now=NOW)
            run.state, run.outcome = "finished", {"made": {}, "phase": phase}
        return self.kept(phase)

    def kept(self, phase: str = "finetune_world_model") -> manifests.KeptManifest:
        with self.store.database.read() as session:
            return manifests.of_iteration(session, self.iteration)[phase]

    def again(self, kept: manifests.KeptManifest) -> Store:
        return snapshot(self.store, kept, folder=self.folder / "again")

    def execute(self, statement: sa.Executable) -> None:
        with self.store.database.write() as session:
            session.execute(statement)


@pytest.fixture
def past(database: Database, blobs: BlobStore, tmp_path: Path) -> Past:
    return Past(database, blobs, tmp_path)


def test_a_phase_finds_its_episodes_labels_and_checkpoints_as_it_found_them(past: Past) -> None:
    kept = past.did()
    copy = past.again(kept)
    assert copy.database.is_sqlite
    with copy.database.read() as session:
        rows = replay.select(session, replay.EpisodeQuery())
        assert episode_entries(session, {"fresh": rows}) == inputs_of(kept)["episodes"]
        assert {row.iteration_id for row in rows} == {past.iteration, past.older}
        for row in rows:
            assert episodes.load(session, copy.blobs, row.id).digest == row.manifest_sha256
        row = checkpoints.get(session, past.world_model.id)
        assert (row.number, row.iteration_id, row.card) == (1, None, {}), "nothing keeps it from being used"
        assert checkpoints.path(row, copy.blobs).read_bytes() == b"world model"
        spec = iterations.get(session, past.iteration)
        assert (spec.state, spec.spec["seed"]) == ("running", 2)
    copy.database.dispose()


def test_what_came_afterwards_is_not_there(past: Past) -> None:
    kept = past.did()
    past.episode(4, past.iteration)
    past.checkpoint("judge", b"judge")
    wanted = inputs_of(kept)["episodes"][0]
    past.judged(wanted["id"], not wanted["success"])
    copy = past.again(kept)
    with copy.database.read() as session:
        assert len(replay.select(session, replay.EpisodeQuery())) == 3
        label = labels.effective_label(session, wanted["id"])
        assert label is not None
        assert (label.success, label.source) == (wanted["success"], "sim_predicate")
        assert session.scalars(sa.select(CheckpointRow.kind)).all() == ["policy", "world_model"]
        assert session.scalars(sa.select(PhaseRunRow.id)).all() == []
    copy.database.dispose()


def test_an_update_finds_how_the_finetuning_ended_and_the_trust_of_then(past: Past) -> None:
    past.trusted(7, NOW - timedelta(minutes=1))
    past.did()
    kept = past.did("update_policy")
    past.trusted(2, LATER)
    copy = past.again(kept)
    with copy.database.read() as session:
        run = phase_runs.latest(session, past.iteration, phase="finetune_world_model")
        assert run is not None
        assert (run.state, run.outcome) == ("finished", {"made": {}, "phase": "finetune_world_model"})
        assert [row.horizon for row in session.scalars(sa.select(TrustReportRow))] == [7]
    copy.database.dispose()


def refused(past: Past, kept: manifests.KeptManifest) -> str:
    with pytest.raises(SnapshotChanged) as told:
        past.again(kept)
    assert len(told.value.faults) == 1
    return str(told.value)


def test_a_changed_seed_is_detected(past: Past) -> None:
    kept = past.did()
    past.execute(
        sa.update(IterationRow)
        .where(IterationRow.id == past.iteration)
        .values(spec=parse_spec({"seed": 5}).document())
    )
    assert "spec of iteration 2" in refused(past, kept)


def test_a_label_that_is_not_what_it_was_is_detected(past: Past) -> None:
    """The database refuses such a change; whoever edits the file gets past it."""
    entries = inputs_of(past.did())["episodes"]
    kept = past.did(episodes=[{**entries[0], "success": not entries[0]["success"]}, *entries[1:]])
    assert f"label of episode {entries[0]['id']}: False then, True now" in refused(past, kept)


def test_a_label_that_is_gone_is_detected(past: Past) -> None:
    entries = inputs_of(past.did())["episodes"]
    missing = {**entries[0], "labels": [10_000]}
    kept = past.did(episodes=[missing, *entries[1:]])
    assert "True then, None now" in refused(past, kept)


def test_an_episode_that_is_not_the_one_of_then_is_detected(past: Past) -> None:
    kept = past.did()
    name = inputs_of(kept)["episodes"][0]["id"]
    past.execute(sa.update(EpisodeRow).where(EpisodeRow.id == name).values(manifest_sha256="0" * 64))
    assert f"episode {name}: " in refused(past, kept)


def test_a_checkpoint_that_is_not_the_one_of_then_is_detected(past: Past) -> None:
    kept = past.did()
    past.execute(
        sa.update(CheckpointRow)
        .where(CheckpointRow.id == past.policy.id)
        .values(sha256=past.world_model.sha256)
    )
    assert f"checkpoint {past.policy.id}: {past.policy.sha256} then" in refused(past, kept)


def test_an_altered_manifest_is_detected(past: Past) -> None:
    kept = past.did()
    content = json.loads(kept.manifest.content)
    text = canonical_json({**content, "environment": {"threads": 4}}, what="it")
    past.execute(sa.update(PhaseManifestRow).values(content=text))
    assert f"the manifest itself: {kept.manifest.sha256} then, {text_digest(text)} now" in refused(
        past, past.kept()
    )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda path: path.unlink(), BlobMissing),
        (lambda path: path.write_bytes(b"something else"), BlobCorrupt),
    ],
)
def test_a_file_that_is_gone_or_altered_is_detected(
    past: Past, change: Callable[[Path], object], error: type[Exception]
) -> None:
    kept = past.did()
    path = past.store.blobs.path(past.world_model.sha256)
    path.chmod(0o600)
    change(path)
    with pytest.raises(error):
        past.again(kept)


def test_only_finished_learning_phases_can_be_done_again(past: Past) -> None:
    with pytest.raises(ManifestMissing, match="iteration 1 has no finished learning phase"):
        learning_phases(past.store.database, 1)
    past.did("collect")
    with pytest.raises(ManifestMissing):
        learning_phases(past.store.database, 2)
    past.did("update_policy")
    past.did("finetune_world_model")
    found = learning_phases(past.store.database, 2)
    assert [kept.run.phase for kept in found] == ["finetune_world_model", "update_policy"]
    assert threads_of(found[0]) == 3
    past.execute(sa.update(PhaseRunRow).where(PhaseRunRow.phase == "update_policy").values(state="failed"))
    assert [kept.run.phase for kept in learning_phases(past.store.database, 2)] == ["finetune_world_model"]


def test_every_difference_of_code_and_machine_is_a_sentence() -> None:
    then = {"code": {"sha256": "a"}, "environment": {"packages": {"torch": "2.9", "peft": "1"}, "threads": 2}}
    now = {"code": {"sha256": "a"}, "environment": {"packages": {"torch": "2.10"}, "threads": 1}}
    assert differences(then, now) == [
        "packages.peft was 1, is None",
        "packages.torch was 2.9, is 2.10",
        "threads was 2, is 1",
    ]
    assert differences(then, then) == []


def test_pictures_that_people_brought_are_found_again_until_they_are_removed(past: Past) -> None:
    content = b"a picture"
    sha256 = past.store.blobs.put(content)
    new = start_images.NewStartImage(task_id="t", instruction="do", sha256=sha256, width=1, height=1)
    with past.store.database.write() as session:
        row = start_images.add(session, new, who="ann", now=NOW)
        start_images.add(session, new, who="bob", now=NOW)  # afterwards, or of another task
    kept = past.did("update_policy", start_images=[{"id": row.id, "sha256": sha256}])
    copy = past.again(kept)
    with copy.database.read() as session:
        assert [each.id for each in start_images.present(session)] == [row.id]
    assert copy.blobs.read(sha256) == content
    copy.database.dispose()
    shutil.rmtree(past.folder / "again")
    with past.store.database.write() as session:
        start_images.remove(session, start_images.get(session, row.id), now=NOW)
    assert f"start image {row.id}: {sha256} then, none now" in refused(past, kept)


def test_what_was_let_go_meanwhile_but_is_still_there_is_found_as_it_was_then(past: Past) -> None:
    kept = past.did()
    for table in (EpisodeRow, CheckpointRow):
        past.execute(sa.update(table).values(retired_at=LATER))
    copy = past.again(kept)
    with copy.database.read() as session:
        assert len(replay.select(session, replay.EpisodeQuery())) == 3
        row = checkpoints.get(session, past.world_model.id)
        assert checkpoints.path(row, copy.blobs).read_bytes() == b"world model"
    copy.database.dispose()
