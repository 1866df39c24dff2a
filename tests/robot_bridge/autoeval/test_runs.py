"""Runs are found by the description of their job; of what anybody may upload, nothing else is believed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robot_bridge.autoeval.dataset import FolderDataset
from robot_bridge.autoeval.errors import DatasetMalformed, PickleRefused, SandboxFailed
from robot_bridge.autoeval.runs import RunRef, run_of
from robot_bridge.autoeval.unpickle import SandboxLimits
from robot_bridge.autoeval.unpickle_child import MAX_PICKLE_BYTES
from tests.robot_bridge.autoeval.records import a_record, pickled_record, put_run


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    return lambda *arguments, **facts: put_run(tmp_path, *arguments, **facts)


def the_run(dataset: FolderDataset, description: str = "dyna:ours") -> RunRef:
    run = dataset.find_run(description)
    assert run is not None
    return run


def test_a_run_is_found_by_the_description_of_its_job(put: Callable[..., Path], tmp_path: Path) -> None:
    put("41", "dyna:other")
    put("42", "dyna:ours", time="2026-01-01T10:00:00")
    found = FolderDataset(tmp_path).find_run("dyna:ours")
    assert found == RunRef(eval_id="42", description="dyna:ours", time="2026-01-01T10:00:00")
    assert FolderDataset(tmp_path).find_run("dyna:nobody") is None
    assert FolderDataset(tmp_path).find_run("dyna") is None


def test_a_job_that_was_executed_twice_has_two_runs_and_the_later_counts(
    put: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put("9", "dyna:ours", time="2026-01-01T10:00:00")
    put("1", "dyna:ours", time="2026-01-01T12:00:00")
    put("5", "dyna:ours", time="2026-01-01T11:00:00")
    with caplog.at_level(logging.WARNING):
        assert the_run(FolderDataset(tmp_path)).eval_id == "1"
    assert "runs share a description description=dyna:ours count=3" in caplog.text


def test_trajectories_come_by_number_and_one_at_a_time(put: Callable[..., Path], tmp_path: Path) -> None:
    folder = put("42", "dyna:ours")
    for index in (10, 2, 0):
        (folder / f"traj_{index}.pkl").write_bytes(pickled_record(a_record(steps=1, seed=index)))
    dataset = FolderDataset(tmp_path)
    run = the_run(dataset)
    assert dataset.indices(run) == (0, 2, 10)
    stream = dataset.stream(run)
    assert next(stream).index == 0
    (folder / "traj_2.pkl").write_bytes(b"no longer a pickle")
    with pytest.raises(PickleRefused, match=r"traj_2\.pkl"):
        next(stream)


def test_all_trajectories_at_once_are_those_of_the_stream(put: Callable[..., Path], tmp_path: Path) -> None:
    folder = put("42", "dyna:ours")
    for index in range(2):
        (folder / f"traj_{index}.pkl").write_bytes(pickled_record(a_record(steps=1, seed=index)))
    dataset = FolderDataset(tmp_path)
    found = dataset.trajectories(the_run(dataset))
    assert [each.index for each in found] == [0, 1]
    np.testing.assert_array_equal(found[1].action, np.stack(a_record(steps=1, seed=1)["action"]))


@pytest.mark.parametrize(
    "name", ["traj_01.pkl", "traj_.pkl", "traj_-1.pkl", "traj_1.pkl.tmp", "xtraj_1.pkl", "traj_10000.pkl"]
)
def test_a_file_with_another_name_is_no_trajectory(
    put: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    (put("42", "dyna:ours") / name).write_bytes(b"")
    dataset = FolderDataset(tmp_path)
    assert dataset.indices(the_run(dataset)) == ()


def test_a_run_with_more_trajectories_than_any_job_has_is_malformed(
    put: Callable[..., Path], tmp_path: Path
) -> None:
    folder = put("42", "dyna:ours")
    for index in range(201):
        (folder / f"traj_{index}.pkl").touch()
    dataset = FolderDataset(tmp_path)
    with pytest.raises(DatasetMalformed, match=r"run 42 .* at most 200 trajectories, found 201"):
        dataset.indices(the_run(dataset))


def test_a_trajectory_that_is_too_large_is_refused_before_it_is_read(
    put: Callable[..., Path], tmp_path: Path
) -> None:
    with (put("42", "dyna:ours") / "traj_0.pkl").open("wb") as file:
        file.truncate(MAX_PICKLE_BYTES + 1)  # a hole, no bytes on the disk
    dataset = FolderDataset(tmp_path)
    with pytest.raises(DatasetMalformed, match=r"traj_0\.pkl"):
        dataset.trajectories(the_run(dataset))


def test_the_limits_of_the_sandbox_are_the_callers(put: Callable[..., Path], tmp_path: Path) -> None:
    (put("42", "dyna:ours") / "traj_0.pkl").write_bytes(pickled_record(a_record(steps=1)))
    dataset = FolderDataset(tmp_path, limits=SandboxLimits(wall_s=0.001))
    with pytest.raises(SandboxFailed, match=r"0\.001 s"):
        dataset.trajectories(the_run(dataset))


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"eval_name": 3, "time": []}',
        b"[" * 50_000,
        b'{"eval_name": "dyna:ours", "pad": "' + b"x" * 70_000 + b'"}',
    ],
    ids=["empty", "cut", "no-utf8", "list", "null", "nothing", "kinds", "deep", "huge"],
)
def test_metadata_that_cannot_be_read_is_of_nobodys_run(metadata: bytes) -> None:
    assert run_of("42", metadata) == RunRef(eval_id="42", description="", time="")


def test_long_texts_of_metadata_are_cut() -> None:
    run = run_of("42", json.dumps({"eval_name": "x" * 900, "time": "y" * 900}).encode())
    assert (len(run.description), len(run.time)) == (500, 500)
