"""Episodes out as a LeRobotDataset v3.0, one in memory at a time.

A row is one action with the observation it was decided on. Observation T has no row: its picture and its
state lie in `_gymnastd`. `action` is what the policy asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot_bridge.conventions import ACTION_DIMS, PROPRIO_DIMS
from robot_bridge.frames import FrameBlob
from storage.interchange import lerobot_layout as layout
from storage.interchange.errors import EpisodeUnfit
from storage.interchange.lerobot_layout import Place
from storage.interchange.lerobot_statistics import Levels, Running
from storage.interchange.record import Record, write_side
from storage.interchange.video import VideoWriter

KEYFRAMES: Final = 2  # a key frame at every second picture, so that any one is quickly reached
CRF: Final = 23  # h264 quality, as LeRobot writes it
MEGABYTE: Final = 1_000_000


class LeRobotWriter:
    """Writes into an empty folder; `add` every record, then `close`.

    `data_bytes` and `video_bytes` are the sizes beyond which the next episode begins a new file.
    """

    format = layout.FORMAT

    def __init__(
        self,
        folder: Path,
        *,
        data_bytes: int = layout.DATA_MB * MEGABYTE,
        video_bytes: int = layout.VIDEO_MB * MEGABYTE,
    ) -> None:
        self._folder = folder
        self._limits = {"data": data_bytes, "video": video_bytes}
        self._data_at, self._video_at = Place(), Place()
        self._rows: pq.ParquetWriter | None = None
        self._video: VideoWriter | None = None
        self._size: tuple[int, int] | None = None  # width, height
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._frames = 0
        self._running = {name: Running() for name in layout.ROWS.names}
        self._pixels = Levels()
        self.places: dict[str, str] = {}
        self.notes = {
            "action": "raw_action: what the policy asked for; executed_action is in _gymnastd",
            "last_observation": "its picture and state are in _gymnastd: a row is one action",
            "frames": f"h264, yuv420p, crf {CRF}",
        }

    def add(self, record: Record) -> None:
        """Append one episode.

        Raises:
            EpisodeUnfit: another rate or picture size than the dataset's, or an odd side.
        """
        manifest, steps = record.episode.manifest, record.episode.steps
        self._check(record)
        index = len(self._episodes)
        task = self._tasks.setdefault(manifest.instruction, len(self._tasks))
        began = self._append_pictures(record.episode.frames, manifest.T)
        data_at = self._append_rows(_columns(record, episode=index, task=task, first=self._frames))
        video = f"videos/{layout.VIDEO_KEY}"
        self._episodes.append(
            {
                "episode_index": index,
                "tasks": [manifest.instruction],
                "length": steps.count,
                "data/chunk_index": data_at.chunk,
                "data/file_index": data_at.file,
                "dataset_from_index": self._frames,
                "dataset_to_index": self._frames + steps.count,
                f"{video}/chunk_index": self._video_at.chunk,
                f"{video}/file_index": self._video_at.file,
                f"{video}/from_timestamp": began / layout.FPS,
                f"{video}/to_timestamp": (began + steps.count) / layout.FPS,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )
        self._frames += steps.count
        self.places[str(index)] = manifest.episode_id
        write_side(self._folder, record, with_last=True)

    def close(self) -> None:
        """Finish the files and write everything under meta/."""
        for each in (self._rows, self._video):
            if each is not None:
                each.close()
        width, height = self._size or (0, 0)
        episodes = self._folder / layout.EPISODES
        episodes.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(self._episodes, schema=layout.episodes_schema()), episodes)
        pq.write_table(layout.tasks_table(list(self._tasks)), self._folder / layout.TASKS)
        _write_json(
            self._folder / layout.INFO,
            layout.info_tree(
                episodes=len(self._episodes),
                frames=self._frames,
                tasks=len(self._tasks),
                width=width,
                height=height,
            ),
        )
        statistics = {name: running.tree() for name, running in self._running.items()}
        statistics[layout.VIDEO_KEY] = self._pixels.tree()
        _write_json(self._folder / layout.STATS, statistics)

    def _check(self, record: Record) -> None:
        manifest, frames = record.episode.manifest, record.episode.frames
        if manifest.control_hz != layout.FPS:
            raise EpisodeUnfit(
                episode_id=manifest.episode_id, expected=f"{layout.FPS} Hz", found=f"{manifest.control_hz} Hz"
            )
        size = (frames.width, frames.height)
        if self._size is None and not (size[0] % 2 or size[1] % 2):
            self._size = size
        if size != self._size:
            wanted = "even sides" if self._size is None else f"{self._size[0]}x{self._size[1]} pixels"
            found = f"{size[0]}x{size[1]}"
            raise EpisodeUnfit(episode_id=manifest.episode_id, expected=wanted, found=found)

    def _append_pictures(self, frames: FrameBlob, count: int) -> int:
        """Add the first `count` pictures; returns the number of the first one in its file."""
        if self._video is not None and self._video.bytes > self._limits["video"]:
            self._video.close()
            self._video, self._video_at = None, self._video_at.next
        if self._video is None:
            path = self._folder / self._video_at.video()
            self._video = VideoWriter(
                path, size=(frames.width, frames.height), fps=layout.FPS, crf=CRF, keyframes=KEYFRAMES
            )
        began = self._video.count
        for index in range(count):
            picture = frames.decode(index)
            self._video.add(picture)
            self._pixels.add(picture)
        return began

    def _append_rows(self, columns: dict[str, Any]) -> Place:
        """Add one row group; returns the file it went to."""
        path = self._folder / self._data_at.data()
        if self._rows is not None and path.stat().st_size > self._limits["data"]:
            self._rows.close()
            self._rows, self._data_at = None, self._data_at.next
            path = self._folder / self._data_at.data()
        if self._rows is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._rows = pq.ParquetWriter(path, layout.ROWS)
        for name, values in columns.items():
            self._running[name].add(values.reshape(len(values), -1))
        widths = {layout.ACTION: ACTION_DIMS, layout.STATE: PROPRIO_DIMS}
        arrays = [
            pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), widths[name])
            if name in widths
            else pa.array(values)
            for name, values in columns.items()
        ]
        self._rows.write_table(pa.table(arrays, schema=layout.ROWS))
        return self._data_at


def _columns(record: Record, *, episode: int, task: int, first: int) -> dict[str, Any]:
    """The columns of one episode in the order of the schema; T rows."""
    steps = record.episode.steps
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


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=4, allow_nan=False), encoding="utf-8")
