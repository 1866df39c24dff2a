"""Raw BridgeData: folders that its own tools read, pickles that run nothing, datasets of others."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage.interchange.bridge_raw_layout import plain
from storage.interchange.bridge_raw_read import find_bridge_raw
from storage.interchange.bridge_raw_write import BridgeRawWriter
from storage.interchange.errors import DatasetInvalid
from storage.interchange.exchange import Intake, Store, bring_in, send_out
from storage.interchange.plain_pickle import plain_pickle
from storage.interchange.seal import unseal
from tests.storage.interchange.laboratory import (
    a_store,
    an_episode,
    filled,
    keep,
    records_of,
    wanted_of,
)

FEW = 3


@pytest.fixture
def exported(tmp_path: Path, now: datetime) -> tuple[Store, Path]:
    store, folder = filled(tmp_path / "lab", FEW, now=now), tmp_path / "out"
    send_out(store, wanted_of(store), folder=folder, make=BridgeRawWriter, now=now)
    return store, folder


def take_in(store: Store, folder: Path, now: datetime) -> Intake:
    found = find_bridge_raw(folder, unseal(folder, expected="bridge-raw"))
    return bring_in(store, found, folder=folder, now=now)


def foreign(folder: Path) -> Path:
    shutil.rmtree(folder / "_gymnastd")
    (folder / "manifest.json").unlink()
    return folder


def trajectories(folder: Path) -> list[Path]:
    return sorted((path.parent for path in folder.rglob("obs_dict.pkl")), key=lambda path: path.name)


def load(path: Path) -> Any:
    """As BridgeData's own tools do it; these files are ours."""
    return pickle.loads(path.read_bytes())  # noqa: S301


def test_folders_are_laid_out_as_bridgedata_has_them(exported: tuple[Store, Path]) -> None:
    names = [path.relative_to(exported[1]).as_posix() for path in trajectories(exported[1])]
    assert names == [
        "cell-0/open_drawer/00/2026-01-01_11-00-00/raw/traj_group0/traj0",
        "cell-1/close_drawer/00/2026-01-01_11-01-00/raw/traj_group0/traj1",
        "cell-0/put_eggplant_blue_sink/00/2026-01-01_11-02-00/raw/traj_group0/traj2",
    ]


def test_the_usual_unpickler_finds_t_actions_and_t_plus_1_observations(exported: tuple[Store, Path]) -> None:
    records = list(records_of(exported[0]).values())
    for folder, record in zip(trajectories(exported[1]), records, strict=True):
        manifest, steps = record.episode.manifest, record.episode.steps
        observed, policy = load(folder / "obs_dict.pkl"), load(folder / "policy_out.pkl")
        for name in ("full_state", "state"):
            assert observed[name].dtype == np.float64
            np.testing.assert_array_equal(observed[name].astype(np.float32), steps.state)
        np.testing.assert_array_equal(observed["time_stamp"], steps.t_obs)
        assert observed["env_done"].tolist() == [False] * steps.count + [True]
        assert ("qpos" in observed) is (steps.qpos is not None)
        actions = np.stack([each["actions"] for each in policy]).astype(np.float32)
        np.testing.assert_array_equal(actions, steps.raw_action)
        assert policy[0]["policy_type"] == "nano"
        assert load(folder / "agent_data.pkl")["traj_ok"] is (manifest.outcome == "completed")
        assert (folder / "lang.txt").read_text() == manifest.instruction + "\n"
        for t in range(steps.count + 1):
            assert (folder / f"images0/im_{t}.jpg").read_bytes() == record.episode.frames.jpeg(t)
        assert len(list((folder / "images0").iterdir())) == steps.count + 1


def test_folders_of_others_come_in_once_and_need_no_convention(
    exported: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    """The format is the convention."""
    other, folder = a_store(tmp_path / "other"), foreign(exported[1])
    assert take_in(other, folder, now).added == FEW
    by_actions = {r.episode.steps.raw_action.tobytes(): r.episode for r in records_of(other).values()}
    for record in records_of(exported[0]).values():
        found = by_actions[record.episode.steps.raw_action.tobytes()]
        np.testing.assert_array_equal(found.steps.state, record.episode.steps.state)
        assert found.frames.data == record.episode.frames.data
        assert found.manifest.instruction == record.episode.manifest.instruction
        assert found.manifest.valid_for.world_model
    assert take_in(other, folder, now).added == 0


def as_lists(folder: Path) -> None:
    """Observations as BridgeData's recorder leaves them: lists of arrays, with much beside them."""
    observed = load(folder / "obs_dict.pkl")
    told = {
        "state": list(observed["full_state"]),
        "time_stamp": observed["time_stamp"].tolist(),
        "task_stage": [0] * len(observed["full_state"]),
        "eef_transform": np.zeros((4, 4)),
        "high_bound": None,
    }
    (folder / "obs_dict.pkl").write_bytes(pickle.dumps(told, protocol=3))
    steps = [{**each, "delta": {"deep": (1, 2)}} for each in load(folder / "policy_out.pkl")]
    (folder / "policy_out.pkl").write_bytes(pickle.dumps(steps, protocol=4))


def test_pickles_of_other_protocols_and_with_more_in_them_are_read(
    exported: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    folder = foreign(exported[1])
    for trajectory in trajectories(folder):
        as_lists(trajectory)
    other = a_store(tmp_path / "other")
    assert take_in(other, folder, now).added == FEW
    states = {r.episode.steps.state.tobytes() for r in records_of(other).values()}
    assert states == {r.episode.steps.state.tobytes() for r in records_of(exported[0]).values()}


def test_recordings_from_before_the_camera_was_prompt_are_kept_from_the_world_model(
    tmp_path: Path, now: datetime
) -> None:
    store = a_store(tmp_path / "lab")
    for number, date in enumerate(("2021-07-22T23:59:59+00:00", "2021-07-23T00:00:00+00:00")):
        at = datetime.fromisoformat(date)
        keep(store, an_episode(number, started_at=at, ended_at=at), number=number, now=now)
    send_out(store, wanted_of(store), folder=tmp_path / "out", make=BridgeRawWriter, now=now)
    other = a_store(tmp_path / "other")
    take_in(other, foreign(tmp_path / "out"), now)
    valid = {
        r.episode.manifest.instruction: r.episode.manifest.valid_for.world_model
        for r in records_of(other).values()
    }
    assert valid == {"«open_drawer», please": False, "close drawer": True}


def test_the_instruction_is_the_first_line_that_says_what_to_do(
    exported: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    folder = foreign(exported[1])
    first, second, third = trajectories(folder)
    (first / "lang.txt").write_text("confidence: 1.0\n\n  put it there \nput it here\n")
    (second / "lang.txt").unlink()
    shutil.rmtree(third)
    other = a_store(tmp_path / "other")
    take_in(other, folder, now)
    said = {r.episode.manifest.task_id: r.episode.manifest.instruction for r in records_of(other).values()}
    assert said == {"put_it_there": "put it there", "unlabelled": ""}


class Command:
    """What a hostile pickle holds: a call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["obs_dict.pkl", "policy_out.pkl"])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(
    exported: tuple[Store, Path], tmp_path: Path, now: datetime, name: str
) -> None:
    folder, trap = foreign(exported[1]), tmp_path / "trap"
    first = sorted(trajectories(folder))[0]
    (first / name).write_bytes(pickle.dumps({"state": Command(trap)}))
    with pytest.raises(DatasetInvalid, match=f"{name}.*global posix.mkdir"):
        take_in(a_store(tmp_path / "other"), folder, now)
    assert not trap.exists()


def a_pickle(name: str, value: Any) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(pickle.dumps(value)) and None


def small_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("spoil", "where", "expected"),
    [
        (a_pickle("obs_dict.pkl", {"qpos": np.zeros((3, 8))}), "obs_dict.pkl", "one of full_state, state"),
        (a_pickle("obs_dict.pkl", [1, 2]), "obs_dict.pkl", "a dict of observations"),
        (a_pickle("obs_dict.pkl", {"state": np.zeros((3, 8))}), "obs_dict.pkl", "state of 7 numbers"),
        (
            a_pickle("obs_dict.pkl", {"state": np.full((3, 7), np.nan)}),
            "obs_dict.pkl",
            "finite numbers in state",
        ),
        (a_pickle("obs_dict.pkl", {"state": ["x"]}), "obs_dict.pkl", "numbers as state"),
        (a_pickle("obs_dict.pkl", {"state": [[1.0], [1.0, 2.0]]}), "obs_dict.pkl", "numbers as state"),
        (a_pickle("obs_dict.pkl", {"state": np.zeros((3, 3, 3))}), "obs_dict.pkl", "rows of state"),
        (a_pickle("obs_dict.pkl", {"state": np.zeros((2, 7))}), "traj0", "states, one more than actions"),
        (a_pickle("obs_dict.pkl", {"state": []}), "obs_dict.pkl", "rows of state"),
        (a_pickle("policy_out.pkl", []), "policy_out.pkl", "a list of steps"),
        (a_pickle("policy_out.pkl", [{"action": 1}]), "policy_out.pkl", "actions in every step"),
        (
            a_pickle("policy_out.pkl", [{"actions": np.zeros(6)}] * 2),
            "policy_out.pkl",
            "actions of 7 numbers",
        ),
        (
            a_pickle("policy_out.pkl", [{"actions": np.zeros(7) + np.inf}] * 2),
            "policy_out.pkl",
            "finite numbers",
        ),
        (lambda f: (f / "policy_out.pkl").write_bytes(b""), "policy_out.pkl", "a pickle of plain numbers"),
        (lambda f: (f / "policy_out.pkl").unlink(), "policy_out.pkl", "a pickle of plain numbers"),
        (
            lambda f: (f / "obs_dict.pkl").write_bytes((f / "obs_dict.pkl").read_bytes()[:-30]),
            "obs_dict.pkl",
            "a broken one",
        ),
        (lambda f: (f / "images0/im_1.jpg").unlink(), "images0", "without a gap"),
        (lambda f: shutil.rmtree(f / "images0"), "images0", "without a gap"),
        (lambda f: (f / "images0/im_2.jpg").unlink(), "traj0", "T >= 1 actions, T"),
        (
            lambda f: (f / "images0/im_1.jpg").write_bytes(small_jpeg()),
            "im_1.jpg",
            "a JPEG as large as the first",
        ),
        (lambda f: (f / "images0/im_0.jpg").write_bytes(b"GIF8"), "im_0.jpg", "a JPEG as large as the first"),
    ],
)
def test_a_trajectory_that_breaks_the_format_is_refused_with_the_file_and_the_rule(
    exported: tuple[Store, Path],
    tmp_path: Path,
    now: datetime,
    spoil: Callable[[Path], object],
    where: str,
    expected: str,
) -> None:
    folder = foreign(exported[1])
    spoil(trajectories(folder)[0])
    with pytest.raises(DatasetInvalid, match=expected) as caught:
        take_in(a_store(tmp_path / "other"), folder, now)
    assert where in str(caught.value)


def test_a_folder_without_trajectories_is_refused(tmp_path: Path, now: datetime) -> None:
    with pytest.raises(DatasetInvalid, match=r"obs_dict\.pkl below it"):
        take_in(a_store(tmp_path / "other"), tmp_path / "nowhere", now)


def test_numbers_that_are_not_those_of_the_notes_are_refused(
    exported: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    folder = exported[1]
    seal = unseal(folder, expected="bridge-raw")
    first = sorted(trajectories(folder))[0]
    steps = load(first / "policy_out.pkl")
    steps[1]["actions"][0] += 0.001
    (first / "policy_out.pkl").write_bytes(pickle.dumps(steps))
    with pytest.raises(DatasetInvalid, match=r"policy_out\.pkl .* in row 1, as _gymnastd says"):
        bring_in(a_store(tmp_path / "other"), find_bridge_raw(folder, seal), folder=folder, now=now)


# ---- names and pickles


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("cell-1", "cell-1"),
        ("../../etc", "etc"),
        ("_gymnastd", "gymnastd"),
        ("a/b c", "a_b_c"),
        ("..", "unnamed"),
    ],
)
def test_a_name_becomes_a_folder_inside_the_export(name: str, folder: str) -> None:
    assert plain(name) == folder


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**31 - 1,
        -(2**31),
        2**31,
        -(2**40),
        2**63,
        0.1,
        -float("inf"),
        "",
        "«drawer»",
        [],
        [1, "two", [3.0, None]],
        {},
        {"a": [1], "b": {"c": False}},
    ],
)
def test_plain_values_come_out_of_the_usual_unpickler_as_they_went_in(value: Any) -> None:
    found = pickle.loads(plain_pickle(value))  # noqa: S301
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i8", "u4", "?"])
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 3), ()])
def test_arrays_come_out_of_the_usual_unpickler_as_they_went_in(dtype: str, shape: tuple[int, ...]) -> None:
    count = int(np.prod(shape))
    value = np.arange(count).astype(dtype).reshape(shape)
    found = pickle.loads(plain_pickle({"array": value}))["array"]  # noqa: S301
    assert (found.dtype, found.shape) == (value.dtype, shape)
    np.testing.assert_array_equal(found, value)


def test_an_array_that_lies_crosswise_is_written_row_by_row() -> None:
    value = np.arange(6.0).reshape(2, 3).T
    np.testing.assert_array_equal(pickle.loads(plain_pickle(value)), value)  # noqa: S301
