"""The files of a LeRobotDataset v3.0, put together from episodes that lie there one by one.

Nothing is encoded: rows come from `_gymnastd`, pictures from one video per episode. All files are written
anew each time, so it does not matter where an earlier attempt was killed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot_bridge.conventions import ACTION_DIMS, PROPRIO_DIMS
from robot_bridge.steps import StepArrays
from storage.interchange import lerobot_layout as layout
from storage.interchange.lerobot_layout import Limits, Place
from storage.interchange.lerobot_statistics import Levels, Running
from storage.interchange.record import read_side
from storage.interchange.video import VideoJoiner
from storage.interchange.writer import Written


def put_together(
    folder: Path,
    episodes: Sequence[Written],
    *,
    limits: Limits,
    size: tuple[int, int],
    told: Callable[[int, int], None],
) -> None:
    """Write data/, videos/ and meta/ of these episodes; size is width and height of every picture.

    Raises:
        DatasetInvalid: the notes of an episode are gone.
    """
    rows, table, tasks, levels = _Rows(folder, limits.data_bytes), [], dict[str, int](), Levels()
    pictures = _Pictures(folder, limits.video_bytes)
    for index, episode in enumerate(episodes):
        side = read_side(folder, episode.episode_id)
        task = tasks.setdefault(side.manifest.instruction, len(tasks))
        own = {
            "episode_index": index,
            "tasks": [side.manifest.instruction],
            "length": side.steps.count,
            **rows.add(side.steps, episode=index, task=task),
            **pictures.add(folder / episode.parts[0].name, side.steps.count, episode.facts["video_bytes"]),
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        table.append(own)
        levels.include(episode.facts["levels"])
        told(index + 1, len(episodes))
    rows.close()
    pictures.close()
    _write_meta(folder, table, list(tasks))
    counts = {"episodes": len(episodes), "frames": rows.count, "tasks": len(tasks)}
    _write_json(folder / layout.INFO, layout.info_tree(**counts, width=size[0], height=size[1]))
    statistics = {name: running.tree() for name, running in rows.running.items()}
    _write_json(folder / layout.STATS, {**statistics, layout.VIDEO_KEY: levels.tree()})


class _Rows:
    """The files under data/: one row group per episode."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit, self._at = folder, limit, Place()
        self._file: pq.ParquetWriter | None = None
        self.count = 0
        self.running = {name: Running() for name in layout.ROWS.names}

    def add(self, steps: StepArrays, *, episode: int, task: int) -> dict[str, Any]:
        """Append an episode's rows; what the table of episodes says of them."""
        file = self._open_file()
        columns = _columns(steps, episode=episode, task=task, first=self.count)
        for name, values in columns.items():
            self.running[name].add(values.reshape(len(values), -1))
        widths = {layout.ACTION: ACTION_DIMS, layout.STATE: PROPRIO_DIMS}
        arrays = [
            pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), widths[name])
            if name in widths
            else pa.array(values)
            for name, values in columns.items()
        ]
        file.write_table(pa.table(arrays, schema=layout.ROWS))
        began, self.count = self.count, self.count + steps.count
        return {
            "data/chunk_index": self._at.chunk,
            "data/file_index": self._at.file,
            "dataset_from_index": began,
            "dataset_to_index": self.count,
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open_file(self) -> pq.ParquetWriter:
        path = self._folder / self._at.data()
        if self._file is not None and path.stat().st_size > self._limit:
            self.close()
            self._at = self._at.next
            path = self._folder / self._at.data()
        if self._file is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = pq.ParquetWriter(path, layout.ROWS)
        return self._file


class _Pictures:
    """The files under videos/: each joins the videos of several episodes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit, self._at = folder, limit, Place()
        self._file: VideoJoiner | None = None
        self._bytes = self._count = 0  # of the file that is open

    def add(self, path: Path, count: int, size: int) -> dict[str, Any]:
        """Append an episode's video of so many pictures and bytes; what the table of episodes says of it."""
        if self._bytes > self._limit:
            self.close()
            self._at = self._at.next
        self._file = self._file or VideoJoiner(self._folder / self._at.video(), fps=layout.FPS)
        self._file.add(path)
        began, self._count = self._count, self._count + count
        self._bytes += size
        video = f"videos/{layout.VIDEO_KEY}"
        return {
            f"{video}/chunk_index": self._at.chunk,
            f"{video}/file_index": self._at.file,
            f"{video}/from_timestamp": began / layout.FPS,
            f"{video}/to_timestamp": self._count / layout.FPS,
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._bytes, self._count = None, 0, 0


def _columns(steps: StepArrays, *, episode: int, task: int, first: int) -> dict[str, Any]:
    """The columns of one episode in the order of the schema; T rows."""
    count = steps.count
    own = np.arange(count, dtype=np.int64)
    return {
        layout.ACTION: steps.raw_action,
        layout.STATE: steps.state[:-1],
        "timestamp": (own / layout.FPS).astype(np.float32),
        "frame_index": own,
        "episode_index": np.full(count, episode, np.int64),
        "index": own + first,
        "task_index": np.full(count, task, np.int64),
    }


def _write_meta(folder: Path, episodes: list[dict[str, Any]], tasks: list[str]) -> None:
    path = folder / layout.EPISODES
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(episodes, schema=layout.episodes_schema()), path)
    pq.write_table(layout.tasks_table(tasks), folder / layout.TASKS)


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=4, allow_nan=False), encoding="utf-8")
