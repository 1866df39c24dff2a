"""What the daemon clears away: work that is over and old, and nothing else."""

import os
from datetime import datetime, timedelta

import pytest

from daemon.iteration import advance
from daemon.scheduling.sweeps import sweep_unnamed_blobs, sweep_work
from storage import iterations, phase_runs


def made(path, now: datetime, *, hours_ago: float):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.write_bytes(b"state")
    else:
        path.mkdir()
        (path / "scratch").write_bytes(b"x")
    then = (now - timedelta(hours=hours_ago)).timestamp()
    os.utime(path, (then, then))
    return path


@pytest.fixture
def running(sqlite_database, now):
    """The id of an iteration, and of its collect run, which somebody does."""
    with sqlite_database.write() as session:
        row, _ = iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
        advance(session, now=now)
        claimed = phase_runs.claim(session, "w", ttl_s=1e6, now=now)
    return row.id, claimed


def test_folders_of_attempts_that_are_over_go_once_they_are_old(sqlite_database, tmp_path, now, running):
    _, claimed = running
    current = made(tmp_path / "work" / claimed.phase_run_id, now, hours_ago=48)
    forgotten = made(tmp_path / "work" / "an-attempt-of-before", now, hours_ago=48)
    young = made(tmp_path / "work" / "of-today", now, hours_ago=23)
    assert sweep_work(now, database=sqlite_database, data_dir=tmp_path) == "work swept removed=1"
    assert (current.exists(), forgotten.exists(), young.exists()) == (True, False, True)
    with sqlite_database.write() as session:
        phase_runs.finish(session, claimed, outcome={}, now=now)
    assert sweep_work(now, database=sqlite_database, data_dir=tmp_path) == "work swept removed=1"
    assert not current.exists()


def test_states_to_resume_from_go_when_their_iteration_is_over(sqlite_database, tmp_path, now, running):
    iteration, _ = running
    state = made(tmp_path / "resume" / f"{iteration}-policy.safetensors", now, hours_ago=48)
    strange = made(tmp_path / "resume" / "notes.txt", now, hours_ago=48)
    assert sweep_work(now, database=sqlite_database, data_dir=tmp_path) is None
    with sqlite_database.write() as session:
        iterations.cancel(session, iteration, now=now)
    assert sweep_work(now, database=sqlite_database, data_dir=tmp_path) == "work swept removed=1"
    assert (state.exists(), strange.exists()) == (False, True)


def test_a_store_without_work_has_nothing_to_sweep(sqlite_database, blobs, tmp_path, now):
    assert sweep_work(now, database=sqlite_database, data_dir=tmp_path / "nowhere") is None
    assert sweep_unnamed_blobs(now, database=sqlite_database, blobs=blobs) is None


def test_swept_blobs_are_told_as_counts(sqlite_database, blobs, now):
    path = blobs.path(blobs.put(b"nobody's"))
    os.utime(path, (0, 0))
    told = sweep_unnamed_blobs(now, database=sqlite_database, blobs=blobs)
    assert told == "blobs swept seen=1 removed=1"
    assert not path.exists()
