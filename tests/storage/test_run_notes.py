"""What others than its worker know of a run."""

from __future__ import annotations

from datetime import timedelta

import pytest

from storage import phase_runs, run_notes
from storage.errors import LeaseLost


@pytest.fixture
def queued(database, an_iteration, now):
    iteration = an_iteration()
    with database.write() as session:
        return phase_runs.queue(session, iteration, phase="collect", now=now)


def claimed(database, now, worker="w"):
    with database.write() as session:
        return phase_runs.claim(session, worker, ttl_s=60, now=now)


def runs_of(database, iteration_id):
    with database.read() as session:
        return phase_runs.of_iteration(session, iteration_id)


def test_a_queued_run_says_what_it_waits_for_and_only_once(database, queued, now):
    with database.write() as session:
        run_notes.say_waiting(session, "waiting for disk space")
    with database.read() as session:
        assert run_notes.queued_without(session, "waiting for disk space") == []
        assert len(run_notes.queued_without(session, "something else")) == 1
    claimed(database, now)
    with database.write() as session:
        run_notes.say_waiting(session, "never said of a run that runs")
    assert runs_of(database, queued.iteration_id)[0].progress_text == "waiting for disk space"


def test_the_run_of_a_dead_worker_is_tried_again_at_once_and_says_why(database, queued, now):
    mine = claimed(database, now)
    with database.write() as session:
        (noted,) = run_notes.note_death(session, "w", code="worker_killed", message="killed", now=now)
        phase_runs.abandon_expired(session, now=now)  # long before the lease would have run out
    assert noted.id == mine.phase_run_id
    first, second = runs_of(database, queued.iteration_id)
    assert (first.state, first.error_code, first.error_message) == ("abandoned", "worker_killed", "killed")
    assert (second.state, second.attempt) == ("queued", 2)
    with database.write() as session, pytest.raises(LeaseLost):
        phase_runs.finish(session, mine, outcome={}, now=now)


def test_a_death_concerns_nobody_elses_run(database, queued, now):
    claimed(database, now)
    with database.write() as session:
        assert run_notes.note_death(session, "another", code="c", message="m", now=now) == []
        assert phase_runs.abandon_expired(session, now=now) == []


def test_deaths_count_as_attempts_and_a_full_disk_does_not(database, queued, now):
    for number in range(2 * phase_runs.MAX_ATTEMPTS):
        mine = claimed(database, now + timedelta(seconds=number))
        with database.write() as session:
            phase_runs.release(session, mine, now=now, why="no room", code=phase_runs.DISK_FULL)
    for number in range(phase_runs.MAX_ATTEMPTS):
        claimed(database, now + timedelta(minutes=number))
        with database.write() as session:
            run_notes.note_death(session, "w", code="worker_killed", message="killed", now=now)
            phase_runs.abandon_expired(session, now=now)
    runs = runs_of(database, queued.iteration_id)
    assert len(runs) == 3 * phase_runs.MAX_ATTEMPTS
    assert (runs[0].error_code, runs[0].error_message) == ("disk_full", "given back by worker w: no room")
    assert (runs[-1].state, runs[-1].error_code) == ("failed", phase_runs.ATTEMPTS_EXHAUSTED)
    assert runs[-1].error_message == "killed", "why the last one ended is still told"


def test_a_disk_that_is_full_at_every_attempt_ends_the_phase_with_what_to_do(database, queued, now):
    for number in range(phase_runs.MOST_DISK_FULL):
        mine = claimed(database, now + timedelta(seconds=number))
        with database.write() as session:
            again = phase_runs.release(session, mine, now=now, why="no room", code=phase_runs.DISK_FULL)
            assert (again is None) is (number + 1 == phase_runs.MOST_DISK_FULL)
    last = runs_of(database, queued.iteration_id)[-1]
    assert (last.state, last.error_code) == ("failed", "disk_full")
    assert "20 attempts" in last.error_message
    assert last.error_message.endswith("given back by worker w: no room")


def test_full_disks_that_were_forgiven_do_not_count(database, queued, now):
    for number in range(phase_runs.MOST_DISK_FULL + 1):
        mine = claimed(database, now + timedelta(seconds=number))
        with database.write() as session:
            again = phase_runs.release(session, mine, now=now, why="no room", code=phase_runs.DISK_FULL)
            phase_runs.get(session, mine.phase_run_id).forgiven = number == 0
    assert again is None, "one more than without"


def test_what_failed_for_another_disk_counts_whatever_it_calls_itself(database, queued, now):
    for number in range(phase_runs.MAX_ATTEMPTS):
        mine = claimed(database, now + timedelta(seconds=number))
        with database.write() as session:
            again = phase_runs.fail(
                session, mine, error_code=phase_runs.DISK_FULL, message="the station's", retry=True, now=now
            )
    assert again is None, "every run comes to an end"
