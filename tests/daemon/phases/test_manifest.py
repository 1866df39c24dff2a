"""What the phases write down before they work, held against what they then did."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from daemon.code_version import code_version, platform_facts
from daemon.errors import NothingCollected
from daemon.iteration_manifest import inputs_of, iteration_manifest
from daemon.learning.devices import choose_precision, precision_of
from daemon.learning.reward.vlm import PROMPT_VERSION
from daemon.learning.tensor_digest import tensors_digest
from daemon.phases import collect, finetune_world_model, update_policy
from daemon.phases.checkpoints import newest
from daemon.phases.clips import Shelf, load_latents
from daemon.phases.manifest import Inputs, folder_digest, judge_version, write_manifest
from daemon.phases.material import gather
from daemon.phases.resuming import resumable
from daemon.spec import parse_spec
from daemon.stores import utc_now
from storage import checkpoints, iterations, labels, manifests, phase_runs, replay
from storage.array_cache import ArrayCache
from storage.errors import LeaseLost
from storage.leases import revoke
from tests.daemon.phases.conftest import SMALL, Crash, Lab, crashing, make_policy


def written(lab: Lab, phase: str) -> dict[str, Any]:
    with lab.database.read() as session:
        return inputs_of(manifests.of_iteration(session, lab.iteration_id)[phase])


def entries(manifest: dict[str, Any], use: str) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in manifest["episodes"] if entry["use"] == use}


@pytest.fixture
def collected(lab: Lab) -> Lab:
    lab.do("collect", collect.run)
    return lab


def test_every_manifest_says_what_computed_and_by_which_spec(collected: Lab) -> None:
    found = written(collected, "collect")
    assert (found["phase"], found["seed"], found["preset"]) == ("collect", 3, "nano")
    assert found["spec_digest"] == parse_spec(SMALL).digest()
    assert found["code"] == code_version()
    environment = found["environment"]
    assert {name: environment[name] for name in platform_facts()} == platform_facts()
    assert environment["threads"] == torch.get_num_threads()
    assert f"torch.{environment['precision']}" == str(choose_precision(environment["device"]))


def test_collecting_names_both_policies_and_every_station_with_its_limits(collected: Lab) -> None:
    made = make_policy(collected)
    collected.request({**SMALL, "seed": 4})
    outcome = collected.do("collect", collect.run)
    found = written(collected, "collect")
    named = {kind: entry["id"] for kind, entry in found["checkpoints"].items()}
    assert named == {"policy": outcome["read"]["policy"], "candidate": made}
    (station,) = found["collect"]["stations"].items()
    assert station[0] == "toy-1"
    assert station[1]["limits"]["step_xyz_max"] > 0
    assert found["collect"]["via"] == "stepped"


def test_finetuning_names_every_episode_it_learns_from_and_measures_on(collected: Lab) -> None:
    lab = collected
    outcome = lab.do("finetune_world_model", finetune_world_model.run)
    found = written(lab, "finetune_world_model")
    with lab.database.read() as session:
        learned = checkpoints.episode_ids(session, outcome["made"]["judge"])
        rows = {row.id: row for row in replay.select(session, replay.EpisodeQuery())}
        counts = labels.effective_labels(session, rows)
        read = checkpoints.get(session, outcome["read"]["world_model"])
    assert sorted(entries(found, "fresh")) == learned
    assert len(entries(found, "held_out")) == outcome["held_out_episodes"]
    for entry in found["episodes"]:
        row, label = rows[entry["id"]], counts[entry["id"]]
        assert (entry["sha256"], entry["held_out"]) == (row.manifest_sha256, row.held_out)
        assert (entry["labels"], entry["success"]) == ([label.id], label.success)
    assert found["checkpoints"]["world_model"] == {
        "id": read.id,
        "number": read.number,
        "sha256": read.sha256,
    }


def test_an_update_names_its_models_its_starts_and_how_far_it_trusted(collected: Lab) -> None:
    lab = collected
    lab.do("finetune_world_model", finetune_world_model.run)
    outcome = lab.do("update_policy", update_policy.run)
    found = written(lab, "update_policy")
    assert {kind: entry["id"] for kind, entry in found["checkpoints"].items()} == outcome["read"]
    assert found["trusted"] == {
        "imagined_steps": outcome["imagined_steps"],
        "tasks_left_out": outcome["tasks_left_out"],
    }
    assert len(entries(found, "start")) == 2
    assert not any(entry["held_out"] for entry in found["episodes"])


def test_a_phase_that_dies_has_said_what_it_worked_from(collected: Lab) -> None:
    context = collected.context("finetune_world_model")
    with pytest.raises(Crash):
        finetune_world_model.run(crashing(context, at="world model, update 1"))
    assert len(written(collected, "finetune_world_model")["episodes"]) == 4


def test_a_phase_that_found_nothing_to_work_from_leaves_none(lab: Lab) -> None:
    with pytest.raises(NothingCollected):
        finetune_world_model.run(lab.context("finetune_world_model"))
    with lab.database.read() as session:
        assert manifests.of_iteration(session, lab.iteration_id) == {}


def test_a_run_that_was_taken_away_writes_nothing(lab: Lab) -> None:
    context = lab.context("collect")
    with lab.database.write() as session:
        revoke(session, phase_runs.lease_name(lab.iteration_id, "collect"), now=utc_now())
    with pytest.raises(LeaseLost):
        write_manifest(context, Inputs(checkpoints={}))
    with lab.database.read() as session:
        assert manifests.of_iteration(session, lab.iteration_id) == {}


def test_the_manifest_of_an_iteration_puts_together_what_was_read_and_what_was_made(collected: Lab) -> None:
    lab = collected
    outcome = lab.do("finetune_world_model", finetune_world_model.run)
    with lab.database.read() as session:
        whole = iteration_manifest(session, iterations.get(session, lab.iteration_id))
        made = {**outcome["made"], **outcome["rejected"]}
        rows = {kind: checkpoints.get(session, name) for kind, name in made.items()}
        digests = {kind: tensors_digest(lab.blobs.path(row.sha256)) for kind, row in rows.items()}
    assert whole["spec"] == parse_spec(SMALL).document()
    assert list(whole["phases"]) == ["collect", "finetune_world_model"]
    outputs = whole["phases"]["finetune_world_model"]["outputs"]
    told = {**outputs["made"], **outputs["rejected"]}
    assert set(told) == {"world_model", "judge"}
    for kind, entry in told.items():
        row = rows[kind]
        assert (entry["id"], entry["sha256"], entry["tensors_sha256"]) == (row.id, row.sha256, digests[kind])
    collected_ids = {entry["id"] for entry in whole["phases"]["collect"]["outputs"]["episodes"]}
    read = {entry["id"] for entry in whole["phases"]["finetune_world_model"]["inputs"]["episodes"]}
    assert collected_ids == read


def test_latents_of_another_precision_are_not_taken_for_those_of_this_one(collected: Lab) -> None:
    """Which precision is faster is probed, and may come out otherwise in the next process."""
    context = collected.context("finetune_world_model")
    shelf = Shelf(blobs=collected.blobs, cache=ArrayCache(collected.folder / "cache"))
    fresh = gather(context, shelf, size=64).fresh
    for precision in (torch.float32, torch.bfloat16):
        with precision_of("cpu", precision):
            world_model = finetune_world_model.load_world_model(context, newest(context, "world_model"))
            load_latents(world_model, shelf, clips=fresh.clips, rows=fresh.rows)
    kinds = [path.name for path in (collected.folder / "cache").iterdir() if path.name.startswith("latents-")]
    assert sorted(name.rpartition("-")[2] for name in kinds) == ["bfloat16", "float32"]


def test_a_training_does_not_go_on_in_another_precision(lab: Lab) -> None:
    context = lab.context("collect")

    def bound() -> str:
        return resumable(context, "policy", inputs={"steps": 5}, every_s=0.0).binding

    with precision_of("cpu", torch.float32):
        first = bound()
        assert bound() == first
    with precision_of("cpu", torch.bfloat16):
        assert bound() != first


def test_the_judge_is_told_with_what_the_spec_does_not_say_of_it(lab: Lab, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    lab.request({**SMALL, "judge": {"kind": "ensemble", "ensemble": ["vlm_http", "vlm_local"]}})
    context = lab.context("collect")
    changes = {"judge_url": "http://127.0.0.1:1/v1", "judge_model_dir": model}
    context = replace(context, settings=context.settings.model_copy(update=changes))
    assert judge_version(context) == {
        "kinds": ["vlm_http", "vlm_local"],
        "vlm_http": {"url": "http://127.0.0.1:1/v1", "prompt": PROMPT_VERSION},
        "vlm_local": {"sha256": folder_digest(model), "prompt": PROMPT_VERSION},
    }


def test_a_classifier_is_named_by_its_checkpoint_alone(lab: Lab) -> None:
    assert judge_version(lab.context("collect")) == {"kinds": ["success_classifier"]}


def test_another_file_makes_another_model(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"layers": 2}))
    before = folder_digest(folder)
    other = Path(shutil.copytree(folder, tmp_path / "two"))
    assert folder_digest(other) == before
    (other / "config.json").write_text(json.dumps({"layers": 3}))
    assert folder_digest(other) != before
