"""An attempt while it grows: files that are only appended to, and how they become an attempt when it is over.

    header.json    what is known when it begins
    frames.jpegs   the pictures, one after the other
    steps.jsonl    one line per step: its numbers, and where its picture stands

A step's line is written before its action is sent; its picture stands in frames.jpegs by then. Both are
handed to the operating system at once, and synced when the attempt ends: a killed program loses at most the
step in flight, a power cut at most the attempt that runs. Ending an attempt and recovering one after a crash
are the same reading of these files. When an attempt ends is not decided here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from robot_bridge.autoeval.attempt import ARRAYS, Attempt, AttemptCorrupt, EndedBy
from robot_bridge.autoeval.tasks import Rotation
from robot_bridge.conventions import F32
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import RobotBridgeError
from robot_bridge.frames import JPEG_START
from robot_bridge.station.durable import sync_folder, write_synced

HEADER_FILE: Final = "header.json"
FRAMES_FILE: Final = "frames.jpegs"
STEPS_FILE: Final = "steps.jsonl"


class RecordingFailed(RobotBridgeError):
    code = "recording_failed"
    sentence = (
        "job {job_id} cannot be recorded in {path} ({reason}). No action is sent that is not recorded: make "
        "room, then submit the job again."
    )


class RunningHeader(BaseModel):
    """What is known of an attempt when it begins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: str
    index: int
    task_id: str
    instruction: str
    policy: PolicyRef
    rotation: Rotation
    started_at: AwareDatetime


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One question and what it was answered with; see `attempt.Attempt` for the names and units."""

    proprio: F32
    policy_action: F32
    sent_action: F32
    t_recv: float
    t_sent: float
    wall_recv: float
    infer_ms: float
    fallback: bool

    def line(self, start: int, stop: int) -> bytes:
        """Its line in steps.jsonl; its picture is bytes [start, stop) of frames.jpegs."""
        tree = {name: _plain(getattr(self, name)) for name in ARRAYS}
        return json.dumps({"picture": [start, stop], **tree}, allow_nan=False).encode() + b"\n"


@contextmanager
def on_disk(job_id: str, path: Path) -> Iterator[None]:
    """Turns what the disk says into RecordingFailed."""
    try:
        yield
    except OSError as cause:
        reason = cause.strerror or type(cause).__name__
        raise RecordingFailed(job_id=job_id, path=path, reason=reason) from cause


class Recording:
    """One running attempt's files. Steps are added by one thread at a time.

    Raises:
        RecordingFailed: the folder cannot be made.
    """

    def __init__(self, folder: Path, header: RunningHeader) -> None:
        self.folder = folder
        self.header = header
        self.steps = 0
        self._picture_at = self._line_at = 0
        with on_disk(header.job_id, folder):
            folder.mkdir(parents=True)
            write_synced(folder / HEADER_FILE, header.model_dump_json().encode())
            sync_folder(folder)
            sync_folder(folder.parent)
            self._frames = os.open(folder / FRAMES_FILE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._lines = os.open(folder / STEPS_FILE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def add(self, step: Step, jpeg: bytes) -> None:
        """Record one step. After a failure nothing counts of it, and the next one is written in its place.

        Raises:
            RecordingFailed: the disk does not take it.
        """
        start, stop = self._picture_at, self._picture_at + len(jpeg)
        line = step.line(start, stop)
        with on_disk(self.header.job_id, self.folder):
            _write_at(self._frames, jpeg, start)
            _write_at(self._lines, line, self._line_at)
        self._picture_at, self._line_at = stop, self._line_at + len(line)
        self.steps += 1

    def close(self) -> None:
        """Let go of the files; they can be read as an attempt from now on."""
        os.close(self._frames)
        os.close(self._lines)


def read_running(folder: Path, ended_by: EndedBy) -> Attempt | None:
    """The attempt in a running folder as far as it goes, or None when it has no step, or not even a header.

    Raises:
        AttemptCorrupt: its header does not read back, so nobody knows whose it was.
    """
    try:
        header = RunningHeader.model_validate_json((folder / HEADER_FILE).read_bytes())
    except FileNotFoundError:  # it comes first: nothing was recorded yet
        return None
    except (OSError, ValidationError) as cause:
        raise AttemptCorrupt(
            where=folder, thing=HEADER_FILE, expected="a header", found=type(cause).__name__
        ) from cause
    frames = _content(folder / FRAMES_FILE)
    steps = list(takewhile(bool, (_step_of(line, frames) for line in _whole_lines(folder / STEPS_FILE))))
    if not steps:
        return None
    pictures = [step.pop("picture") for step in steps]
    arrays: dict[str, Any] = {
        name: np.array([step[name] for step in steps], dtype=np.dtype(dtype))
        for name, (dtype, _) in ARRAYS.items()
    }
    last_sent = steps[-1]["wall_recv"] + steps[-1]["t_sent"] - steps[-1]["t_recv"]
    return Attempt(
        **{name: getattr(header, name) for name in RunningHeader.model_fields},
        **arrays,
        jpegs=tuple(frames[start:stop] for start, stop in pictures),
        ended_at=max(header.started_at, datetime.fromtimestamp(last_sent, UTC)),
        ended_by=ended_by,
    )


def _whole_lines(path: Path) -> list[bytes]:
    """All lines but one that was being written."""
    return _content(path).split(b"\n")[:-1]


def _step_of(line: bytes, frames: bytes) -> dict[str, Any]:
    """The step in a line, or an empty dict where line or picture is not whole: nothing after it counts."""
    try:
        step = json.loads(line)
        start, stop = step["picture"]
        shapes = {name: np.shape(np.array(step[name], dtype=dtype)) for name, (dtype, _) in ARRAYS.items()}
    except (ValueError, TypeError, KeyError):
        return {}
    whole = shapes == {name: row for name, (_, row) in ARRAYS.items()} and 0 <= start < stop <= len(frames)
    return step if whole and frames[start : start + 2] == JPEG_START else {}


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _write_at(handle: int, content: bytes, offset: int) -> None:
    while content:
        written = os.pwrite(handle, content, offset)
        content, offset = content[written:], offset + written


def _plain(thing: Any) -> Any:
    return thing.tolist() if isinstance(thing, np.ndarray) else thing
