"""LeRobotDataset v3.0 as names: paths, features, parquet schemas. Nothing is read or written here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from robot_bridge.conventions import ACTION_DIMS, CONTROL_HZ, PROPRIO_DIMS
from storage.interchange.video import PIXEL_FORMAT

FORMAT: Final = "lerobot"
VERSION: Final = "v3.0"
FPS: Final = int(CONTROL_HZ)
CHUNK_FILES: Final = 1000  # files in one folder
DATA_MB: Final = 100  # a file of rows is closed once it is larger
VIDEO_MB: Final = 200
VIDEO_KEY: Final = "observation.images.primary"
STATE: Final = "observation.state"
ACTION: Final = "action"
INFO: Final = "meta/info.json"
STATS: Final = "meta/stats.json"
TASKS: Final = "meta/tasks.parquet"
EPISODES: Final = "meta/episodes/chunk-000/file-000.parquet"
DATA_PATH: Final = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH: Final = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
ACTION_NAMES: Final = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
STATE_NAMES: Final = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
COUNTERS: Final = ("frame_index", "episode_index", "index", "task_index")

ROWS: Final = pa.schema(
    [
        (ACTION, pa.list_(pa.float32(), ACTION_DIMS)),
        (STATE, pa.list_(pa.float32(), PROPRIO_DIMS)),
        ("timestamp", pa.float32()),
        *((name, pa.int64()) for name in COUNTERS),
    ]
)


@dataclass(frozen=True, slots=True)
class Place:
    """Which file of a kind: its folder and its number there."""

    chunk: int = 0
    file: int = 0

    @property
    def next(self) -> Place:
        last = self.file + 1 == CHUNK_FILES
        return Place(self.chunk + 1, 0) if last else Place(self.chunk, self.file + 1)

    def data(self) -> str:
        return DATA_PATH.format(chunk_index=self.chunk, file_index=self.file)

    def video(self) -> str:
        return VIDEO_PATH.format(video_key=VIDEO_KEY, chunk_index=self.chunk, file_index=self.file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The sizes beyond which the next episode begins a new file."""

    data_bytes: int
    video_bytes: int


def info_tree(*, episodes: int, frames: int, tasks: int, width: int, height: int) -> dict[str, Any]:
    """What meta/info.json holds."""
    return {
        "codebase_version": VERSION,
        "robot_type": "widowx",
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": FPS,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": _features(width=width, height=height),
    }


def _features(*, width: int, height: int) -> dict[str, Any]:
    video = {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": PIXEL_FORMAT,
        "video.is_depth_map": False,
        "video.fps": FPS,
        "video.channels": 3,
        "has_audio": False,
    }
    counters = {name: {"dtype": "int64", "shape": [1], "names": None} for name in COUNTERS}
    return {
        ACTION: {"dtype": "float32", "shape": [ACTION_DIMS], "names": list(ACTION_NAMES)},
        STATE: {"dtype": "float32", "shape": [PROPRIO_DIMS], "names": list(STATE_NAMES)},
        VIDEO_KEY: {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": video,
        },
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **counters,
    }


def episodes_schema(video_key: str = VIDEO_KEY) -> pa.Schema:
    """The columns of meta/episodes; one row per episode."""
    video = f"videos/{video_key}"
    return pa.schema(
        [
            ("episode_index", pa.int64()),
            ("tasks", pa.list_(pa.string())),
            ("length", pa.int64()),
            ("data/chunk_index", pa.int64()),
            ("data/file_index", pa.int64()),
            ("dataset_from_index", pa.int64()),
            ("dataset_to_index", pa.int64()),
            (f"{video}/chunk_index", pa.int64()),
            (f"{video}/file_index", pa.int64()),
            (f"{video}/from_timestamp", pa.float64()),
            (f"{video}/to_timestamp", pa.float64()),
            ("meta/episodes/chunk_index", pa.int64()),
            ("meta/episodes/file_index", pa.int64()),
        ]
    )


def tasks_table(tasks: list[str]) -> pa.Table:
    """task_index by task; the task is the index that pandas restores."""
    columns = [("task_index", "int64", "int64"), ("task", "unicode", "object")]
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
            for name, kind, numpy in columns
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    schema = pa.schema([("task_index", pa.int64()), ("task", pa.string())], {"pandas": json.dumps(pandas)})
    return pa.table({"task_index": list(range(len(tasks))), "task": tasks}, schema=schema)
