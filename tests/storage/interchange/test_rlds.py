"""RLDS: what TFDS finds on disk, datasets of others, and files that are not what they say."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage.interchange.errors import DatasetInvalid, DatasetUndeclared, EpisodeUnfit
from storage.interchange.exchange import Intake, Store, bring_in, send_out
from storage.interchange.rlds_read import find_rlds
from storage.interchange.rlds_write import RldsWriter
from storage.interchange.seal import unseal
from storage.interchange.tf_example import decode_example, encode_example
from storage.interchange.tfrecord import read_records, write_record
from tests.storage.interchange.laboratory import (
    a_store,
    an_episode,
    filled,
    keep,
    records_of,
    wanted_of,
)

COUNT = 8
Features = dict[str, Any]


@pytest.fixture
def exported(tmp_path: Path, now: datetime) -> tuple[Store, Path]:
    """Eight episodes, two of them held out, in several shards."""
    store, folder = filled(tmp_path / "lab", COUNT, now=now), tmp_path / "out"
    send_out(
        store,
        wanted_of(store),
        folder=folder,
        make=lambda where: RldsWriter(where, shard_bytes=9000),
        now=now,
    )
    return store, folder


def take_in(store: Store, folder: Path, now: datetime, convention: str | None = "bridge_v2") -> Intake:
    found = find_rlds(folder, unseal(folder, expected="rlds"), convention=convention)
    return bring_in(store, found, folder=folder, now=now)


def foreign(folder: Path) -> Path:
    shutil.rmtree(folder / "_gymnastd")
    (folder / "manifest.json").unlink()
    return folder


def examples(folder: Path) -> list[Features]:
    shards = sorted(folder.glob("*.tfrecord-*"))
    return [decode_example(content) for path in shards for content in read_records(path)]


def test_shards_are_named_and_counted_as_tfds_expects(exported: tuple[Store, Path]) -> None:
    info = json.loads((exported[1] / "dataset_info.json").read_text())
    splits = {each["name"]: each for each in info["splits"]}
    assert set(splits) == {"train", "test"}
    assert (info["name"], info["version"], info["fileFormat"]) == ("gymnastd", "1.0.0", "tfrecord")
    for name, split in splits.items():
        assert split["filepathTemplate"] == "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        lengths = [int(each) for each in split["shardLengths"]]
        paths = [
            exported[1] / f"gymnastd-{name}.tfrecord-{i:05d}-of-{len(lengths):05d}"
            for i in range(len(lengths))
        ]
        assert [sum(1 for _ in read_records(path)) for path in paths] == lengths
        assert sum(path.stat().st_size for path in paths) == int(split["numBytes"])
    assert sum(int(each) for each in splits["train"]["shardLengths"]) == 6
    assert len(splits["train"]["shardLengths"]) > 1
    assert len(list(exported[1].glob("*.unfinished"))) == 0


def leaves(feature: Features, path: str = "") -> dict[str, tuple[str, str, list[str]]]:
    """Every feature of features.json by its path: class, dtype, shape."""
    if "featuresDict" in feature:
        found = {}
        for name, each in feature["featuresDict"]["features"].items():
            found |= leaves(each, f"{path}/{name}")
        return found
    if "sequence" in feature:
        return leaves(feature["sequence"]["feature"], path)
    own = feature.get("tensor") or feature.get("image") or {"dtype": "string", "shape": {}}
    kind = feature["pythonClassName"].rpartition(".")[2]
    return {path.lstrip("/"): (kind, own["dtype"], own["shape"].get("dimensions", []))}


def test_features_describe_what_every_example_holds(exported: tuple[Store, Path]) -> None:
    told = leaves(json.loads((exported[1] / "features.json").read_text()))
    assert told == {
        "episode_metadata/episode_id": ("Text", "string", []),
        "episode_metadata/file_path": ("Text", "string", []),
        "steps/action": ("Tensor", "float32", ["7"]),
        "steps/discount": ("Scalar", "float32", []),
        "steps/is_first": ("Scalar", "bool", []),
        "steps/is_last": ("Scalar", "bool", []),
        "steps/is_terminal": ("Scalar", "bool", []),
        "steps/language_instruction": ("Text", "string", []),
        "steps/observation/image_0": ("Image", "uint8", ["32", "32", "3"]),
        "steps/observation/state": ("Tensor", "float32", ["7"]),
        "steps/reward": ("Scalar", "float32", []),
    }
    for example in examples(exported[1]):
        assert set(example) == set(told)
        count = len(example["steps/is_first"])
        for name, (_, dtype, shape) in told.items():
            rows = 1 if name.startswith("episode_metadata") else count
            width = 7 if shape == ["7"] else 1
            assert len(example[name]) == rows * width
            kinds = {"float32": np.float32, "bool": np.int64}
            if dtype in kinds:
                assert example[name].dtype == kinds[dtype]


def test_the_last_step_has_the_last_observation_and_no_action(exported: tuple[Store, Path]) -> None:
    records = records_of(exported[0])
    for example in examples(exported[1]):
        record = records[example["episode_metadata/episode_id"][0].decode()]
        steps, frames = record.episode.steps, record.episode.frames
        actions = example["steps/action"].reshape(-1, 7)
        np.testing.assert_array_equal(actions[:-1], steps.raw_action)
        assert not actions[-1].any()
        np.testing.assert_array_equal(example["steps/observation/state"].reshape(-1, 7), steps.state)
        assert example["steps/observation/image_0"] == [frames.jpeg(t) for t in range(len(frames))]
        assert example["steps/is_first"].tolist() == [1] + [0] * steps.count
        assert example["steps/is_last"].tolist() == [0] * steps.count + [1]
        said = record.episode.manifest.instruction.encode()
        assert set(example["steps/language_instruction"]) == {said}


def test_reward_is_one_at_the_action_that_brought_success(
    exported: tuple[Store, Path], tmp_path: Path
) -> None:
    """Of episode 6 the human says yes; of 3 the human says no and outweighs the classifier's yes."""
    rewards = {
        example["episode_metadata/episode_id"][0].decode()[-1]: example["steps/reward"].tolist()
        for example in examples(exported[1])
    }
    assert rewards["7"] == [0.0, 0.0, 0.0, 1.0, 0.0]
    assert not any(rewards["4"])
    assert not any(rewards["3"])


def test_a_dataset_of_others_comes_in_whole_for_its_last_observation_is_there(
    exported: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    other = a_store(tmp_path / "other")
    assert take_in(other, foreign(exported[1]), now).added == COUNT
    by_actions = {r.episode.steps.raw_action.tobytes(): r.episode for r in records_of(other).values()}
    for record in records_of(exported[0]).values():
        found = by_actions[record.episode.steps.raw_action.tobytes()]
        np.testing.assert_array_equal(found.steps.state, record.episode.steps.state)
        assert found.frames.data == record.episode.frames.data
        assert found.manifest.instruction == record.episode.manifest.instruction
    assert take_in(other, exported[1], now).added == 0


def test_a_dataset_of_others_must_be_said_to_be_in_our_convention(
    exported: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    with pytest.raises(DatasetUndeclared):
        take_in(a_store(tmp_path / "other"), foreign(exported[1]), now, convention=None)


def rewrite(folder: Path, change: Callable[[Features], object]) -> None:
    """Every example of the first shard, changed, with whole checksums."""
    path = min(folder.glob("*-train.tfrecord-*"))
    found = [decode_example(content) for content in read_records(path)]
    with path.open("wb") as file:
        for example in found:
            change(example)
            write_record(file, encode_example(example))


def test_pictures_that_are_png_come_in_too(
    exported: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    def as_png(example: Features) -> None:
        pictures = []
        for jpeg in example["steps/observation/image_0"]:
            buffer = io.BytesIO()
            Image.open(io.BytesIO(jpeg)).save(buffer, format="PNG")
            pictures.append(buffer.getvalue())
        example["steps/observation/image_0"] = pictures

    rewrite(foreign(exported[1]), as_png)
    assert take_in(a_store(tmp_path / "other"), exported[1], now).added == COUNT


def setting(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        rewrite(folder, lambda example: example.update({name: change(example[name])}))

    return spoil


def changing_json(name: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tree = json.loads((folder / name).read_text())
        change(tree)
        (folder / name).write_text(json.dumps(tree))

    return spoil


def step_features(tree: Features) -> Features:
    top = tree["featuresDict"]["features"]
    found: Features = top["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    return found


def nan_at_9(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[9] = np.nan
    return values


def cut(folder: Path) -> None:
    path = min(folder.glob("*-train.tfrecord-*"))
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("spoil", "where", "expected"),
    [
        (lambda folder: (folder / "features.json").unlink(), "features.json", "features of RLDS steps"),
        (
            lambda folder: (folder / "dataset_info.json").unlink(),
            "dataset_info.json",
            "head of a TFDS dataset",
        ),
        (
            changing_json("features.json", lambda tree: step_features(tree).pop("action")),
            "features.json",
            r"action float32 \[7\], found no such tensor",
        ),
        (
            changing_json(
                "features.json",
                lambda t: step_features(t)["action"]["tensor"]["shape"].update(dimensions=["8"]),
            ),
            "features.json",
            r"action float32 \[7\], found \('float32', \['8'\]\)",
        ),
        (
            changing_json(
                "features.json",
                lambda t: step_features(t)["observation"]["featuresDict"]["features"].pop("image_0"),
            ),
            "features.json",
            "a camera image_0",
        ),
        (
            changing_json("dataset_info.json", lambda t: t.update(fileFormat="riegeli")),
            "dataset_info.json",
            "fileFormat tfrecord, found riegeli",
        ),
        (
            changing_json("dataset_info.json", lambda t: t["splits"][0]["shardLengths"].insert(0, "1")),
            "tfrecord",
            "a file that can be read",
        ),
        (
            changing_json("dataset_info.json", lambda t: t["splits"][0]["shardLengths"].__setitem__(0, "9")),
            "tfrecord-00000",
            "9 episodes, found",
        ),
        (cut, "tfrecord-00000", "whole, found"),
        (
            setting("steps/action", nan_at_9),
            "tfrecord",
            "finite numbers in steps/action, found nan or inf in row 1",
        ),
        (setting("steps/action", lambda a: a[:-1]), "tfrecord", "steps/action as rows of 7 floats"),
        (setting("steps/action", lambda a: a[:-7]), "tfrecord", "T >= 1 actions, T"),
        (setting("steps/action", lambda a: [b"x"]), "tfrecord", "steps/action as rows of 7 floats"),
        (setting("steps/observation/image_0", lambda p: p[:-1]), "tfrecord", "T >= 1 actions, T"),
        (setting("steps/observation/image_0", lambda p: []), "tfrecord", "image_0 as JPEGs, found none"),
        (
            setting("steps/observation/image_0", lambda p: [p[0][:90], *p[1:]]),
            "tfrecord",
            "JPEGs of one size",
        ),
        (setting("steps/observation/image_0", lambda p: [b"GIF", *p[1:]]), "tfrecord", "JPEGs of one size"),
    ],
)
def test_a_dataset_that_breaks_the_format_is_refused_with_the_file_and_the_rule(
    exported: tuple[Store, Path],
    tmp_path: Path,
    now: datetime,
    spoil: Callable[[Path], object],
    where: str,
    expected: str,
) -> None:
    folder = foreign(exported[1])
    spoil(folder)
    with pytest.raises(DatasetInvalid, match=expected) as caught:
        take_in(a_store(tmp_path / "other"), folder, now)
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"control_hz": 3.0}, "5.0 Hz, found 3.0 Hz"), ({"height": 48}, "32x32 pixels, found 32x48")],
)
def test_an_episode_that_does_not_fit_is_named(
    tmp_path: Path, now: datetime, changes: dict[str, Any], expected: str
) -> None:
    store = filled(tmp_path / "lab", 1, now=now)
    keep(store, an_episode(1, **changes), number=1, now=now)
    with pytest.raises(EpisodeUnfit, match=expected):
        send_out(store, wanted_of(store), folder=tmp_path / "out", make=RldsWriter, now=now)
