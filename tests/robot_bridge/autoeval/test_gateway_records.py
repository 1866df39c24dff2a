"""Everything of one job on disk: counted for good, ended whole, recovered after a crash."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from robot_bridge.autoeval.attempt import Attempt
from robot_bridge.autoeval.gateway_records import BEGUN_FILE, JobRecords
from robot_bridge.autoeval.recorder import HEADER_FILE, STEPS_FILE, Recording, RecordingFailed
from robot_bridge.episode import PolicyRef
from tests.robot_bridge.autoeval.test_recorder import a_header, a_jpeg, a_step

FIRST = PolicyRef(name="fake", version="1", digest="sha256:" + "a" * 64)


@pytest.fixture
def records(tmp_path: Path) -> JobRecords:
    return JobRecords(tmp_path / "job-1", "job-1")


def again(records: JobRecords) -> JobRecords:
    """The same folder as a program that starts later sees it."""
    return JobRecords(records.folder, records.job_id)


def running(records: JobRecords, steps: int, **header: object) -> Recording:
    recording = records.record(a_header(index=records.begin(), **header))
    for t in range(steps):
        recording.add(a_step(t), a_jpeg(t))
    return recording


def kept(records: JobRecords, after: int = -1) -> list[tuple[int, int, str]]:
    return [(a.index, a.steps, a.ended_by) for a in records.attempts(after)]


def test_a_job_that_nobody_called_has_nothing_on_disk(records):
    assert records.begun.attempts == 0
    assert records.attempts() == []
    assert records.count() == 0
    records.recover()
    assert not records.folder.exists()


def test_attempts_are_counted_across_restarts_and_no_index_is_used_twice(records):
    assert [records.begin(), records.begin(), again(records).begin()] == [0, 1, 2]
    assert again(records).begun.attempts == 3


def test_the_first_policy_is_the_jobs_policy_for_good(records):
    assert records.pin(FIRST) == FIRST
    second = PolicyRef(name="fake", version="2")
    assert records.pin(second) == FIRST
    assert again(records).pin(second) == FIRST


def test_pinning_and_counting_do_not_undo_each_other(records):
    records.begin()
    records.pin(FIRST)
    records.begin()
    assert (records.begun.attempts, records.begun.policy) == (2, FIRST)


def test_ended_attempts_come_in_order_and_can_be_asked_for_from_an_index_on(records):
    for steps in (2, 1, 3):
        records.end(running(records, steps), "reset")
    assert kept(records) == [(0, 2, "reset"), (1, 1, "reset"), (2, 3, "reset")]
    assert kept(again(records), after=0) == [(1, 1, "reset"), (2, 3, "reset")]
    assert kept(records, after=2) == []
    assert records.count() == 3


def test_an_attempt_that_runs_is_not_among_the_ended(records):
    recording = running(records, 2)
    assert records.attempts() == []
    records.end(recording, "job")
    assert kept(records) == [(0, 2, "job")]


def test_an_attempt_without_a_step_leaves_nothing_but_its_number(records):
    records.end(running(records, 0), "reset")
    records.end(running(records, 1), "reset")
    assert kept(records) == [(1, 1, "reset")]
    assert list((records.folder / "running").iterdir()) == []


def test_ending_is_said_in_the_log_with_job_and_steps(records, caplog):
    caplog.set_level(logging.INFO)
    records.end(running(records, 2), "idle")
    assert "attempt ended job=job-1 attempt=000000 by=idle steps=2 fallbacks=1" in caplog.text


def test_what_a_dead_program_left_running_is_recovered_once(records):
    running(records, 2).close()
    running(records, 0).close()
    running(records, 3).close()
    later = again(records)
    later.recover()
    assert kept(later) == [(0, 2, "recovered"), (2, 3, "recovered")]
    later.recover()
    assert kept(later) == [(0, 2, "recovered"), (2, 3, "recovered")]
    assert later.begin() == 3


def test_a_program_that_died_between_saving_and_tidying_up_loses_and_doubles_nothing(records):
    recording = running(records, 2)
    copy = {path.name: path.read_bytes() for path in recording.folder.iterdir()}
    records.end(recording, "reset")
    recording.folder.mkdir()
    for name, content in copy.items():
        (recording.folder / name).write_bytes(content)
    again(records).recover()
    assert kept(records) == [(0, 2, "reset")]
    assert not recording.folder.exists()


def test_one_attempt_that_cannot_be_recovered_does_not_keep_the_others(records, caplog):
    broken = running(records, 2)
    broken.close()
    (broken.folder / HEADER_FILE).write_text("{}")
    running(records, 1).close()
    again(records).recover()
    assert kept(records) == [(1, 1, "recovered")]
    assert "attempt not recovered job=job-1 attempt=000000" in caplog.text
    assert (broken.folder / STEPS_FILE).exists()  # left for somebody to look at


def test_one_attempt_that_does_not_read_back_is_left_out_and_said(records, caplog):
    for steps in (1, 2):
        records.end(running(records, steps), "reset")
    (records.folder / "ended" / "000000" / "frames.bin").write_bytes(b"")
    assert kept(records) == [(1, 2, "reset")]
    assert "attempt unreadable job=job-1 attempt=000000" in caplog.text


def test_a_stray_file_in_the_folder_is_no_attempt(records):
    records.end(running(records, 1), "reset")
    (records.folder / "ended" / ".000001.new").mkdir()
    (records.folder / "running" / "notes.txt").write_text("x")
    records.recover()
    assert kept(records) == [(0, 1, "reset")]


@pytest.mark.parametrize("content", ["", "[]", '{"attempts": -', '{"attempts": "many"}', '{"more": 1}'])
def test_a_count_that_does_not_read_back_stops_the_job_instead_of_starting_again_at_zero(records, content):
    records.begin()
    (records.folder / BEGUN_FILE).write_text(content)
    with pytest.raises(RecordingFailed, match=r"begun\.json does not read back"):
        records.begin()


def test_a_folder_that_cannot_be_made_is_said_before_anything_runs(tmp_path):
    (tmp_path / "job-1").write_text("a file")
    with pytest.raises(RecordingFailed, match="job job-1 cannot be recorded"):
        JobRecords(tmp_path / "job-1", "job-1").begin()


def test_an_ended_attempt_is_whole_on_its_own(records, tmp_path):
    records.end(running(records, 2), "reset")
    moved = tmp_path / "elsewhere"
    (records.folder / "ended" / "000000").rename(moved)
    assert Attempt.load(moved).steps == 2
