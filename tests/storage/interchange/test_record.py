"""The notes that go along with every export, and what is made of them on the way back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robot_bridge.frames import FrameBlob
from storage.interchange.errors import DatasetInvalid
from storage.interchange.foreign import Origin, foreign_record, task_of
from storage.interchange.record import Record, read_side, require_equal, restored, write_side
from storage.labels import Verdict
from tests.storage.interchange.laboratory import START, an_episode, arrays, smooth_pictures


@pytest.fixture
def record() -> Record:
    verdicts = (
        Verdict(success=None, source="vlm", at=START, judge="gpt", answer="cannot tell"),
        Verdict(success=True, source="human", at=START, confidence=0.5),
    )
    return Record(episode=an_episode(1), held_out=True, verdicts=verdicts)


def test_notes_are_read_back_as_they_were_written(record: Record, tmp_path: Path) -> None:
    write_side(tmp_path, record, with_last=True)
    manifest = record.episode.manifest
    side = read_side(tmp_path, manifest.episode_id)
    assert side.manifest.digest == record.episode.digest
    assert side.steps.to_npz() == record.episode.steps.to_npz()
    assert (side.held_out, side.verdicts) == (True, record.verdicts)
    assert side.last_jpeg == record.episode.frames.jpeg(manifest.T)


def test_the_last_picture_goes_along_only_where_the_format_drops_it(record: Record, tmp_path: Path) -> None:
    write_side(tmp_path, record)
    assert read_side(tmp_path, record.episode.manifest.episode_id).last_jpeg is None


def test_with_the_very_same_pictures_it_is_the_very_same_episode(record: Record, tmp_path: Path) -> None:
    write_side(tmp_path, record)
    side = read_side(tmp_path, record.episode.manifest.episode_id)
    back = restored(side, FrameBlob(record.episode.frames.data), codec="jpeg")
    assert back.episode.digest == record.episode.digest
    assert back.episode.manifest.metadata == {"seed": "1"}


def test_with_other_pictures_it_says_what_it_was_and_through_what_it_came(
    record: Record, tmp_path: Path
) -> None:
    write_side(tmp_path, record)
    side = read_side(tmp_path, record.episode.manifest.episode_id)
    other = FrameBlob.of_images(record.episode.frames.decode_all(), quality=50)
    back = restored(side, other, codec="h264").episode
    assert back.digest != record.episode.digest
    assert back.manifest.metadata == {"seed": "1", "source_sha256": record.episode.digest, "frames": "h264"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("json", b""),
        ("json", b"[]"),
        ("json", b'{"schema": "gymnastd-episode/9"}'),
        ("json", b'{"schema": "gymnastd-episode/1", "manifest": {}, "labels": [], "held_out": false}'),
        ("npz", b"PK"),
    ],
)
def test_notes_that_are_none_are_refused_by_their_name(
    record: Record, tmp_path: Path, name: str, content: bytes
) -> None:
    write_side(tmp_path, record)
    episode_id = record.episode.manifest.episode_id
    (tmp_path / "_gymnastd" / f"{episode_id}.{name}").write_bytes(content)
    with pytest.raises(DatasetInvalid, match=episode_id):
        read_side(tmp_path, episode_id)


def test_notes_without_arrays_are_refused(record: Record, tmp_path: Path) -> None:
    write_side(tmp_path, record)
    episode_id = record.episode.manifest.episode_id
    (tmp_path / "_gymnastd" / f"{episode_id}.npz").unlink()
    with pytest.raises(DatasetInvalid, match="the notes of an episode"):
        read_side(tmp_path, episode_id)


@pytest.mark.parametrize("value", ["human", None, 3])
def test_a_verdict_without_its_time_is_refused(record: Record, tmp_path: Path, value: object) -> None:
    write_side(tmp_path, record)
    path = tmp_path / "_gymnastd" / f"{record.episode.manifest.episode_id}.json"
    tree = json.loads(path.read_text())
    tree["labels"][0] = {"source": value}
    path.write_text(json.dumps(tree))
    with pytest.raises(DatasetInvalid):
        read_side(tmp_path, record.episode.manifest.episode_id)


def test_numbers_are_equal_within_the_tolerance_and_the_first_row_that_is_not_is_named(
    tmp_path: Path,
) -> None:
    told = np.arange(8, dtype=np.float32).reshape(4, 2)
    require_equal(tmp_path, "action", told=told, found=told.copy())
    require_equal(tmp_path, "action", told=told, found=told + np.float32(0.01), tolerance=0.02)
    other = told.copy()
    other[2, 1] += 0.5
    with pytest.raises(DatasetInvalid, match=r"action \[4\.0, 5\.0\] in row 2.* found \[4\.0, 5\.5\]"):
        require_equal(tmp_path, "action", told=told, found=other)
    with pytest.raises(DatasetInvalid, match="in row 2"):
        require_equal(tmp_path, "action", told=told, found=np.where(other == 5.5, np.nan, other))
    with pytest.raises(DatasetInvalid, match=r"action \[4, 2\].* found \[3, 2\]"):
        require_equal(tmp_path, "action", told=told, found=told[:3])


# ---- episodes of others


ORIGIN = Origin(format="rlds", path=Path("shard"), digest="ab" * 32)


def test_an_episode_of_others_says_what_nobody_told(tmp_path: Path) -> None:
    steps = arrays(3, seed=1)
    frames = FrameBlob.of_images(smooth_pictures(4, seed=1))
    record = foreign_record(
        ORIGIN, actions=steps.raw_action, states=steps.state, frames=frames, instruction="Open the drawer!"
    )
    manifest, found = record.episode.manifest, record.episode.steps
    assert (manifest.task_id, manifest.instruction) == ("open_the_drawer", "Open the drawer!")
    assert (manifest.valid_for.policy_eval, manifest.valid_for.world_model) == (False, True)
    assert manifest.policy.name == "unknown"
    assert manifest.episode_id == ORIGIN.episode_id == replace(ORIGIN, path=Path("moved")).episode_id
    assert ORIGIN.episode_id != replace(ORIGIN, digest="cd" * 32).episode_id
    assert (found.qpos, found.effort_mA, found.target_pose) == (None, None, None)
    np.testing.assert_array_equal(found.executed_action, steps.raw_action)
    np.testing.assert_allclose(found.t_obs, [0.0, 0.2, 0.4, 0.6])
    assert (record.held_out, record.verdicts) == (False, ())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"actions": np.zeros((3, 6), np.float32)}, "action of 7 numbers"),
        ({"states": np.zeros((4, 8), np.float32)}, "state of 7 numbers"),
        (
            {"actions": np.full((3, 7), np.inf, np.float32)},
            "finite numbers in action, found nan or inf in row 0",
        ),
        ({"states": np.zeros((3, 7), np.float32)}, "3 actions, 3 states, 4 pictures"),
        ({"actions": np.zeros((4, 7), np.float32)}, "4 actions, 4 states"),
        ({"actions": np.zeros((0, 7), np.float32)}, "0 actions"),
    ],
)
def test_an_episode_of_others_that_does_not_add_up_is_refused(
    change: dict[str, object], expected: str
) -> None:
    whole: dict[str, object] = {
        "actions": np.zeros((3, 7), np.float32),
        "states": np.zeros((4, 7), np.float32),
        "frames": FrameBlob.of_images(smooth_pictures(4, seed=1)),
    }
    with pytest.raises(DatasetInvalid, match=expected):
        foreign_record(ORIGIN, **{**whole, **change}, instruction="")


@pytest.mark.parametrize(
    ("said", "task"),
    [("", "unlabelled"), ("Put it — there", "put_it_there"), ("«»", "unlabelled"), ("x" * 300, "x" * 100)],
)
def test_a_task_is_named_after_what_the_robot_was_told(said: str, task: str) -> None:
    assert task_of(said) == task
