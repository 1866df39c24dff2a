"""A running attempt's files: what was added is read back, and half a step at the end costs only that step."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from robot_bridge.autoeval.attempt import AttemptCorrupt
from robot_bridge.autoeval.recorder import (
    FRAMES_FILE,
    HEADER_FILE,
    STEPS_FILE,
    Recording,
    RecordingFailed,
    RunningHeader,
    Step,
    on_disk,
    read_running,
)
from robot_bridge.episode import PolicyRef
from robot_bridge.frames import encode_jpeg
from tests.robot_bridge.autoeval.gateway_builders import a_picture, a_proprio
from tests.robot_bridge.builders import NOON

ROOT = Path(__file__).parents[3]


def a_header(**changes: object) -> RunningHeader:
    fields = {
        "job_id": "job-1",
        "index": 4,
        "task_id": "open_drawer",
        "instruction": "open the drawer",
        "policy": PolicyRef(name="fake"),
        "rotation": "raw",
        "started_at": NOON,
    }
    return RunningHeader(**{**fields, **changes})


def a_step(t: int, **changes: object) -> Step:
    fields = {
        "proprio": a_proprio(x=0.2 + t / 100),
        "policy_action": np.full(7, t / 3, dtype=np.float32),
        "sent_action": np.full(7, t / 7, dtype=np.float32),
        "t_recv": 100.0 + t,
        "t_sent": 100.25 + t,
        "wall_recv": NOON.timestamp() + t,
        "infer_ms": 4.5 + t,
        "fallback": t % 2 == 1,
    }
    return Step(**{**fields, **changes})


def a_jpeg(t: int) -> bytes:
    return encode_jpeg(a_picture(t))


def recorded(folder: Path, steps: int = 3) -> Recording:
    recording = Recording(folder, a_header())
    for t in range(steps):
        recording.add(a_step(t), a_jpeg(t))
    return recording


def test_an_attempt_is_what_was_added_step_by_step(tmp_path):
    recorded(tmp_path / "4").close()
    attempt = read_running(tmp_path / "4", "idle")
    assert attempt is not None
    assert (attempt.job_id, attempt.index, attempt.ended_by, attempt.steps) == ("job-1", 4, "idle", 3)
    assert attempt.jpegs == tuple(a_jpeg(t) for t in range(3))
    for name in (
        "proprio",
        "policy_action",
        "sent_action",
        "t_recv",
        "t_sent",
        "wall_recv",
        "infer_ms",
        "fallback",
    ):
        expected = np.array([getattr(a_step(t), name) for t in range(3)])
        np.testing.assert_array_equal(getattr(attempt, name), expected, err_msg=name)


def test_an_attempt_ended_when_its_last_action_was_sent(tmp_path):
    recorded(tmp_path / "4").close()
    attempt = read_running(tmp_path / "4", "job")
    assert attempt is not None
    assert attempt.started_at == NOON
    assert attempt.ended_at == NOON + timedelta(seconds=2.25)


def test_a_wall_clock_that_was_set_back_does_not_end_it_before_it_began(tmp_path):
    recording = Recording(tmp_path / "4", a_header())
    recording.add(a_step(0, wall_recv=NOON.timestamp() - 3600), a_jpeg(0))
    recording.close()
    attempt = read_running(tmp_path / "4", "job")
    assert attempt is not None
    assert attempt.ended_at == NOON


def test_every_step_can_be_read_the_moment_it_was_added(tmp_path):
    recording = Recording(tmp_path / "4", a_header())
    for t in range(3):
        recording.add(a_step(t), a_jpeg(t))
        attempt = read_running(tmp_path / "4", "recovered")
        assert attempt is not None
        assert attempt.steps == recording.steps == t + 1
    recording.close()


def test_an_attempt_without_a_step_or_without_a_header_is_none(tmp_path):
    Recording(tmp_path / "4", a_header()).close()
    assert read_running(tmp_path / "4", "reset") is None
    (tmp_path / "5").mkdir()
    assert read_running(tmp_path / "5", "recovered") is None


def test_a_header_that_does_not_read_back_is_refused(tmp_path):
    recorded(tmp_path / "4").close()
    (tmp_path / "4" / HEADER_FILE).write_text('{"job_id": "job-1"}')
    with pytest.raises(AttemptCorrupt, match=r"header\.json must be a header"):
        read_running(tmp_path / "4", "recovered")


@pytest.mark.parametrize("file", [STEPS_FILE, FRAMES_FILE])
def test_cut_anywhere_an_attempt_keeps_all_whole_steps_before_the_cut(tmp_path, file):
    recorded(tmp_path / "4").close()
    path = tmp_path / "4" / file
    content = path.read_bytes()
    ends = line_ends(tmp_path / "4") if file == STEPS_FILE else picture_ends(tmp_path / "4")
    for length in sorted(
        {0, 1, *ends, *(end - 1 for end in ends), *(min(end + 1, ends[-1]) for end in ends)}
    ):
        path.write_bytes(content[:length])
        attempt = read_running(tmp_path / "4", "recovered")
        whole = sum(end <= length for end in ends)
        assert (0 if attempt is None else attempt.steps) == whole
        if attempt is not None:
            assert attempt.jpegs == tuple(a_jpeg(t) for t in range(whole))


def line_ends(folder: Path) -> list[int]:
    lines = (folder / STEPS_FILE).read_bytes().splitlines(keepends=True)
    return [sum(map(len, lines[: n + 1])) for n in range(len(lines))]


def picture_ends(folder: Path) -> list[int]:
    return [json.loads(line)["picture"][1] for line in (folder / STEPS_FILE).read_bytes().splitlines()]


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b"3",
        b"{}",
        b'{"picture": [0, 9]}',
        b'{"picture": "ab"}',
    ],
    ids=str,
)
def test_a_line_that_is_no_step_ends_the_attempt_before_it(tmp_path, line):
    recorded(tmp_path / "4").close()
    path = tmp_path / "4" / STEPS_FILE
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], line, lines[2], b""]))
    attempt = read_running(tmp_path / "4", "recovered")
    assert attempt is not None
    assert attempt.steps == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"proprio": [0.0] * 7},
        {"sent_action": [[0.0] * 7]},
        {"policy_action": ["a"] * 7},
        {"t_recv": [1.0]},
        {"picture": [0, 10**9]},
        {"picture": [5, 5]},
        {"picture": [1, 60]},
    ],
    ids=str,
)
def test_a_line_with_other_numbers_than_a_steps_ends_the_attempt_before_it(tmp_path, changes):
    recorded(tmp_path / "4").close()
    path = tmp_path / "4" / STEPS_FILE
    lines = path.read_bytes().splitlines()
    broken = json.dumps({**json.loads(lines[1]), **changes}).encode()
    path.write_bytes(b"\n".join([lines[0], broken, lines[2], b""]))
    attempt = read_running(tmp_path / "4", "recovered")
    assert attempt is not None
    assert attempt.steps == 1


def test_a_folder_that_is_there_is_not_recorded_into(tmp_path):
    recorded(tmp_path / "4").close()
    with pytest.raises(RecordingFailed, match="job job-1 cannot be recorded"):
        Recording(tmp_path / "4", a_header())
    assert picture_ends(tmp_path / "4")


def test_only_what_the_disk_says_becomes_a_failed_recording(tmp_path):
    with pytest.raises(RecordingFailed, match="No space left"), on_disk("job-1", tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(KeyError), on_disk("job-1", tmp_path):
        raise KeyError


@contextmanager
def files_at_most(length: int) -> Iterator[None]:
    """No file of this program grows past `length` bytes: what a full disk looks like to a writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("room", [1, 500, 1500], ids=["none", "for part of a line", "for more of it"])
def test_after_a_full_disk_the_recording_goes_on_as_if_nothing_had_been(tmp_path, room):
    small = b"\xff\xd8" + b"x" * 60  # the picture fits, the line does not
    recording = Recording(tmp_path / "4", a_header())
    recording.add(a_step(0), small)
    line_length = (tmp_path / "4" / STEPS_FILE).stat().st_size
    limit = max(len(small), line_length * room // 1000)
    with files_at_most(limit), pytest.raises(RecordingFailed, match="File too large"):
        for t in range(1, 9):
            recording.add(a_step(t), small)
    done = recording.steps
    recording.add(a_step(7), small)
    recording.close()
    attempt = read_running(tmp_path / "4", "job")
    assert attempt is not None
    assert attempt.steps == done + 1
    np.testing.assert_array_equal(attempt.sent_action[-1], a_step(7).sent_action)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.robot_bridge.autoeval.test_recorder import a_step, a_jpeg, recorded
recording = recorded(Path(sys.argv[1]), 5)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_program_loses_nothing_that_was_added(tmp_path):
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "4")], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    attempt = read_running(tmp_path / "4", "recovered")
    assert attempt is not None
    assert attempt.steps == 5
    assert attempt.jpegs == tuple(a_jpeg(t) for t in range(5))
