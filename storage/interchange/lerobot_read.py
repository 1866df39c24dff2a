"""Episodes in from a LeRobotDataset v3.0: ours with all they had, those of others with what they tell.

A dataset of others has no observation after its last action, so that action is left out. Its actions and
states must be said to be in our convention, have seven numbers each and run at 5 Hz.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot_bridge.conventions import ACTION_DIMS, BRIDGE_V2, PROPRIO_DIMS
from robot_bridge.frames import FrameBlob, encode_jpeg
from storage.interchange import lerobot_layout as layout
from storage.interchange.errors import DatasetInvalid, DatasetUndeclared
from storage.interchange.foreign import Origin, check_rows, foreign_record
from storage.interchange.record import F32, Found, Record, read_side, require_equal, restored
from storage.interchange.seal import Seal
from storage.interchange.video import U8, read_pictures

CONVENTIONS: Final = (BRIDGE_V2,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The head of a dataset: where its files are, which video it shows, what it is told to do."""

    folder: Path
    data_path: str
    video_path: str
    video_key: str
    tasks: dict[int, str]

    def file(self, template: str, chunk: int, number: int) -> Path:
        info, expected = self.folder / layout.INFO, "paths of chunk_index, file_index and video_key"
        try:
            name = template.format(chunk_index=chunk, file_index=number, video_key=self.video_key)
        except (LookupError, ValueError) as error:
            raise DatasetInvalid(path=info, expected=expected, found=template) from error
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise DatasetInvalid(path=info, expected="paths in the folder", found=name)
        return path


def find_lerobot(folder: Path, seal: Seal | None, *, convention: str | None = None) -> Iterator[Found]:
    """Every episode of the dataset, not read yet.

    Raises:
        DatasetInvalid: meta/ is not what the format says.
        DatasetUndeclared: a dataset of others, and nobody said what its numbers mean.
    """
    if seal is None and convention not in CONVENTIONS:
        raise DatasetUndeclared(folder=folder, known=CONVENTIONS)
    dataset = read_head(folder)
    hashes: dict[Path, str] = {}
    for path in sorted((folder / "meta/episodes").rglob("*.parquet")):
        for row in _table(path, _needed(dataset.video_key)).to_pylist():
            yield _found(dataset, row, seal, hashes=hashes)


def read_head(folder: Path) -> Dataset:
    """meta/info.json and meta/tasks.parquet, checked.

    Raises:
        DatasetInvalid: one of them is missing or wrong.
    """
    path = folder / layout.INFO
    try:
        tree = json.loads(path.read_bytes())
        version, fps, features = tree["codebase_version"], tree["fps"], dict(tree["features"])
        data_path, video_path = str(tree["data_path"]), str(tree["video_path"])
        kinds = {name: (each["dtype"], list(each["shape"])) for name, each in features.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetInvalid(path=path, expected="a head of LeRobot v3", found=repr(error)) from error
    if version != layout.VERSION:
        raise DatasetInvalid(path=path, expected=f"version {layout.VERSION}", found=str(version))
    if fps != layout.FPS:
        raise DatasetInvalid(path=path, expected=f"fps {layout.FPS}", found=f"fps {fps}")
    for name, width in ((layout.ACTION, ACTION_DIMS), (layout.STATE, PROPRIO_DIMS)):
        if kinds.get(name) != ("float32", [width]):
            found = str(kinds.get(name, "no such feature"))
            raise DatasetInvalid(path=path, expected=f"{name} float32 [{width}]", found=found)
    videos = sorted(name for name, (kind, _) in kinds.items() if kind == "video")
    if not videos:
        raise DatasetInvalid(path=path, expected="a feature of dtype video", found="none")
    key = layout.VIDEO_KEY if layout.VIDEO_KEY in videos else videos[0]
    return Dataset(
        folder=folder,
        data_path=data_path,
        video_path=video_path,
        video_key=key,
        tasks=_tasks(folder / layout.TASKS),
    )


def _needed(video_key: str) -> pa.Schema:
    """Of the columns of meta/episodes, those that are needed to find rows and pictures."""
    whole = layout.episodes_schema(video_key)
    left_out = ("tasks", "dataset_", "meta/", f"videos/{video_key}/to_")
    return pa.schema([field for field in whole if not field.name.startswith(left_out)])


def _tasks(path: Path) -> dict[int, str]:
    schema = pa.schema([("task_index", pa.int64()), ("task", pa.string())])
    return {row["task_index"]: row["task"] for row in _table(path, schema).to_pylist()}


def _found(dataset: Dataset, row: dict[str, Any], seal: Seal | None, *, hashes: dict[Path, str]) -> Found:
    index = row["episode_index"]
    if seal is None:
        files = (_data_file(dataset, row), _video_file(dataset, row))
        for path in files:
            if path not in hashes:
                hashes[path] = _digest(path)
        text = ":".join([*(hashes[path] for path in files), str(index)])
        digest = hashlib.sha256(text.encode()).hexdigest()
        origin = Origin(format=layout.FORMAT, path=files[0], digest=digest)
        return Found(
            episode_id=origin.episode_id, digest=digest, read=partial(_read_foreign, dataset, row, origin)
        )
    episode_id = seal.places.get(str(index))
    if episode_id is None:
        path = dataset.folder / layout.EPISODES
        raise DatasetInvalid(path=path, expected="episodes that manifest.json knows", found=f"{index}")
    digest = read_side(dataset.folder, episode_id).manifest.digest
    return Found(episode_id=episode_id, digest=digest, read=partial(_read_ours, dataset, row, episode_id))


def _read_ours(dataset: Dataset, row: dict[str, Any], episode_id: str) -> Record:
    side = read_side(dataset.folder, episode_id)
    path = _data_file(dataset, row)
    actions, states, instruction = _rows(dataset, row)
    require_equal(path, "action", told=side.steps.raw_action, found=actions)
    require_equal(path, "state", told=side.steps.state[:-1], found=states)
    if instruction != side.manifest.instruction:
        raise DatasetInvalid(path=path, expected=f"task {side.manifest.instruction!r}", found=instruction)
    if side.last_jpeg is None:
        raise DatasetInvalid(path=dataset.folder, expected=f"{episode_id}.last.jpg", found="no such file")
    return restored(side, _blob(_pictures(dataset, row), side.last_jpeg), codec="h264")


def _read_foreign(dataset: Dataset, row: dict[str, Any], origin: Origin) -> Record:
    actions, states, instruction = _rows(dataset, row)
    frames = _blob(_pictures(dataset, row))
    return foreign_record(origin, actions=actions[:-1], states=states, frames=frames, instruction=instruction)


def _rows(dataset: Dataset, row: dict[str, Any]) -> tuple[F32, F32, str]:
    """Actions and states [T, 7] of one episode, and what the robot was told."""
    path, index = _data_file(dataset, row), row["episode_index"]
    table = _table(path, layout.ROWS, filters=[("episode_index", "=", index)])
    if table.num_rows != row["length"] or table.num_rows < 2:
        found = f"{table.num_rows} rows"
        raise DatasetInvalid(path=path, expected=f"{row['length']} rows of episode {index}", found=found)
    instants = table["timestamp"].to_numpy()
    if np.abs(instants - np.arange(len(instants)) / layout.FPS).max() > 1e-3:
        expected = f"timestamps 1/{layout.FPS} s apart in episode {index}"
        raise DatasetInvalid(path=path, expected=expected, found=str(instants[:4].tolist()))
    actions, states = (_matrix(table, name, width=7) for name in (layout.ACTION, layout.STATE))
    check_rows(path, layout.ACTION, actions, width=ACTION_DIMS)
    check_rows(path, layout.STATE, states, width=PROPRIO_DIMS)
    task = table["task_index"][0].as_py()
    if task not in dataset.tasks:
        raise DatasetInvalid(path=path, expected=f"a task of {layout.TASKS}", found=f"task_index {task}")
    return actions, states, dataset.tasks[task]


def _matrix(table: pa.Table, name: str, *, width: int) -> F32:
    flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, width)


def _pictures(dataset: Dataset, row: dict[str, Any]) -> U8:
    start = row[f"videos/{dataset.video_key}/from_timestamp"]
    return read_pictures(_video_file(dataset, row), start_s=start, count=row["length"], fps=layout.FPS)


def _blob(pictures: U8, *last: bytes) -> FrameBlob:
    jpegs = [*(encode_jpeg(picture) for picture in pictures), *last]
    return FrameBlob.of_jpegs(jpegs, width=pictures.shape[2], height=pictures.shape[1])


def _data_file(dataset: Dataset, row: dict[str, Any]) -> Path:
    return dataset.file(dataset.data_path, row["data/chunk_index"], row["data/file_index"])


def _video_file(dataset: Dataset, row: dict[str, Any]) -> Path:
    video = f"videos/{dataset.video_key}"
    return dataset.file(dataset.video_path, row[f"{video}/chunk_index"], row[f"{video}/file_index"])


def _table(path: Path, schema: pa.Schema, *, filters: list[tuple[str, str, int]] | None = None) -> pa.Table:
    """The columns of a parquet file that the schema names, in its types.

    Raises:
        DatasetInvalid: no whole parquet file, a column is missing, of another type, or has gaps.
    """
    try:
        present = pq.read_schema(path)
        for field in schema:
            if field.name not in present.names:
                found = ", ".join(present.names)
                raise DatasetInvalid(path=path, expected=f"a column {field.name}", found=found)
            _check_type(path, field, present.field(field.name).type)
        table = pq.read_table(path, columns=schema.names, filters=filters, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise DatasetInvalid(path=path, expected="a whole parquet file", found=str(error)) from error
    for name in schema.names:
        if table[name].null_count:
            raise DatasetInvalid(path=path, expected=f"no gaps in {name}", found="nulls")
    return table


def _check_type(path: Path, field: pa.Field, found: pa.DataType) -> None:
    """Vectors must have their width; a list without one is read as it comes and checked by its rows."""
    if pa.types.is_fixed_size_list(field.type):
        fits = pa.types.is_fixed_size_list(found) and found.list_size == field.type.list_size
        fits = fits and pa.types.is_floating(found.value_type)
    elif pa.types.is_integer(field.type):
        fits = pa.types.is_integer(found)
    elif pa.types.is_floating(field.type):
        fits = pa.types.is_floating(found)
    else:
        fits = True
    if not fits:
        raise DatasetInvalid(path=path, expected=f"{field.name} of type {field.type}", found=str(found))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise DatasetInvalid(
            path=path, expected="a file that meta/episodes names", found=str(error)
        ) from error
