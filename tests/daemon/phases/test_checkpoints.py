"""What a phase goes on from: imported or made by a finished run, never what a killed attempt left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from daemon.errors import AssetMissing
from daemon.learning.state import save_state
from daemon.learning.tensor_digest import tensors_digest
from daemon.phases import checkpoints as phase_checkpoints
from daemon.phases.checkpoints import Made, current, keep, made_by
from storage import checkpoints, manifests, phase_runs
from storage.adoption import CANDIDATE
from storage.blobs import BlobStore
from storage.db import Database
from storage.errors import LeaseLost
from tests.daemon.phases.conftest import Lab, keep_checkpoint, tiny_models, wall_clock


class Written:
    """Saves a few bytes where a model would save its weights."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def save(self, path: Path, card: dict[str, object], /) -> None:
        weights = torch.tensor(list(self.content), dtype=torch.uint8)
        save_state(path, {"weights": weights}, kind="policy", config={}, card=card)


def newest(lab: Lab, kind: str = "policy") -> str:
    return current(lab.database, lab.blobs, kind, lineage="main", preset="nano", now=wall_clock()).id


def make_policy(lab: Lab, phase: str, *, finished: bool) -> str:
    context = lab.context(phase)
    parent = current(lab.database, lab.blobs, "policy", lineage="main", preset="nano", now=wall_clock())
    row = keep(context, Written(phase.encode()), Made(kind="policy", parent=parent, card={"by": phase}))
    if finished:
        lab.end(context, {"made": {"policy": row.id}})
    return row.id


def test_what_a_finished_phase_made_is_what_the_next_one_reads(lab: Lab) -> None:
    made = make_policy(lab, "update_policy", finished=True)
    assert newest(lab) == made


def test_what_the_tensors_of_a_checkpoint_hash_to_is_kept_with_it(lab: Lab) -> None:
    made = make_policy(lab, "update_policy", finished=True)
    with lab.database.read() as session:
        file = checkpoints.path(checkpoints.get(session, made), lab.blobs)
        assert manifests.tensor_digests(session, [made]) == {made: tensors_digest(file)}


def test_what_an_unfinished_attempt_saved_is_kept_but_not_gone_on_from(lab: Lab) -> None:
    before = newest(lab)
    orphan = make_policy(lab, "update_policy", finished=False)
    assert newest(lab) == before
    with lab.database.read() as session:
        assert checkpoints.get(session, orphan).card == {"by": "update_policy"}


def test_a_candidate_is_not_gone_on_from(lab: Lab, tmp_path: Path) -> None:
    before = newest(lab)
    file = tmp_path / "candidate.safetensors"
    file.write_bytes(b"candidate")
    new = checkpoints.NewCheckpoint(kind="policy", spec_digest="1" * 64, card={CANDIDATE: True})
    with lab.database.write() as session:
        checkpoints.save(session, lab.blobs, new, file=file, now=wall_clock())
    assert newest(lab) == before


def test_a_checkpoint_knows_its_parent_its_iteration_and_its_episodes(lab: Lab) -> None:
    parent = newest(lab)
    made = make_policy(lab, "update_policy", finished=True)
    with lab.database.read() as session:
        row = checkpoints.get(session, made)
        assert (row.parent_id, row.iteration_id) == (parent, lab.iteration_id)
        assert checkpoints.path(row, lab.blobs).read_bytes().endswith(b"update_policy")


def test_a_worker_that_lost_its_lease_keeps_nothing(lab: Lab) -> None:
    context = lab.context("update_policy")
    parent = current(lab.database, lab.blobs, "policy", lineage="main", preset="nano", now=wall_clock())
    with lab.database.write() as session:
        phase_runs.cancel(session, lab.iteration_id, now=wall_clock())
    with pytest.raises(LeaseLost):
        keep(context, Written(b"late"), Made(kind="policy", parent=parent, card={}))
    with lab.database.read() as session:
        rows, _ = checkpoints.list_checkpoints(session, kind="policy")
    assert [row.id for row in rows] == [parent.id]


def test_the_base_checkpoint_of_the_preset_is_registered_once(
    sqlite_database: Database, blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = tmp_path / "assets" / "nano"
    preset.mkdir(parents=True)
    asset = tiny_models(preset)["policy"]
    (preset / "card.json").write_text(json.dumps({"seed": 5}))
    monkeypatch.setattr(phase_checkpoints, "ASSETS", tmp_path / "assets")
    rows = [
        current(sqlite_database, blobs, "policy", lineage="main", preset="nano", now=wall_clock())
        for _ in range(2)
    ]
    assert rows[0].id == rows[1].id
    assert (rows[0].number, rows[0].card) == (1, {"seed": 5})
    assert checkpoints.path(rows[0], blobs).read_bytes() == asset.read_bytes()


def test_a_missing_base_checkpoint_is_named(
    sqlite_database: Database, blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phase_checkpoints, "ASSETS", tmp_path)
    with pytest.raises(AssetMissing, match=r"judge.*nano.*gymnastd pretrain"):
        current(sqlite_database, blobs, "judge", lineage="main", preset="nano", now=wall_clock())


def test_made_by_answers_only_for_finished_runs_and_kinds_they_made(lab: Lab) -> None:
    context = lab.context("finetune_world_model")
    file = lab.folder / "w.safetensors"
    shutil.copyfile(tiny_models(lab.folder)["world_model"], file)
    row = keep_checkpoint(lab.database, lab.blobs, "world_model", file)
    with lab.database.read() as session:
        assert made_by(session, lab.iteration_id, phase="finetune_world_model", kind="world_model") is None
    lab.end(context, {"made": {"world_model": row.id}})
    with lab.database.read() as session:
        found = made_by(session, lab.iteration_id, phase="finetune_world_model", kind="world_model")
        assert found is not None
        assert found.id == row.id
        assert made_by(session, lab.iteration_id, phase="finetune_world_model", kind="judge") is None
        assert made_by(session, lab.iteration_id, phase="update_policy", kind="policy") is None


def test_what_was_let_go_is_not_gone_on_from(lab: Lab) -> None:
    before = newest(lab)
    made = make_policy(lab, "update_policy", finished=True)
    with lab.database.write() as session:
        checkpoints.get(session, made).retired_at = wall_clock()
    assert newest(lab) == before
