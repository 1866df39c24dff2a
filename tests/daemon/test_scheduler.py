import threading
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from daemon.iteration import find_iteration, iteration_record
from daemon.scheduler import Scheduler
from daemon.settings import Settings
from daemon.supervisor import Supervisor
from storage import iterations, phase_runs


class CountingSupervisor(Supervisor):
    """A supervisor without workers that says when it has been called twice."""

    def check(self) -> None:
        self.slots.append(None)
        if len(self.slots) >= 2:
            CountingSupervisor.called_twice.set()


@contextmanager
def started(database, supervisor):
    scheduler = Scheduler(database, supervisor, now=lambda: datetime.now(UTC))
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.stop()


@pytest.fixture
def supervisor(tmp_path):
    CountingSupervisor.called_twice = threading.Event()
    return CountingSupervisor(settings=Settings(data_dir=tmp_path, worker_count=0))


def asked(database, now, seed=0):
    with database.write() as session:
        iterations.request_iteration(session, spec={"seed": seed}, idempotency_key=None, now=now)


def state_of(database, number):
    with database.read() as session:
        return iteration_record(session, find_iteration(session, number))


def test_a_request_is_taken_up_and_the_workers_are_looked_after(sqlite_database, supervisor, now):
    asked(sqlite_database, now)
    with started(sqlite_database, supervisor) as scheduler:
        assert supervisor.called_twice.wait(20)
        assert scheduler.running()
    assert not scheduler.running()
    assert state_of(sqlite_database, 1)["phases"][0]["state"] == "queued"


def test_one_run_goes_as_far_as_there_is_something_to_do(sqlite_database, supervisor, now):
    asked(sqlite_database, now, seed=1)
    asked(sqlite_database, now, seed=2)
    scheduler = Scheduler(sqlite_database, supervisor, now=lambda: now)
    for _ in phase_runs.PHASES:
        scheduler.advance()
        with sqlite_database.write() as session:
            claimed = phase_runs.claim(session, "w", ttl_s=60, now=now)
            phase_runs.finish(session, claimed, outcome={}, now=now)
    scheduler.advance()
    assert state_of(sqlite_database, 1)["state"] == "finished"
    assert state_of(sqlite_database, 2)["state"] == "running", "without waiting for another run"


def test_what_was_done_is_logged_and_idleness_is_not(sqlite_database, supervisor, now, caplog):
    caplog.set_level("INFO")
    scheduler = Scheduler(sqlite_database, supervisor, now=lambda: now)
    scheduler.advance()
    assert "daemon.scheduler" not in caplog.text
    asked(sqlite_database, now)
    scheduler.advance()
    assert "phase queued iteration=1 phase=collect" in caplog.text


def test_a_database_that_fails_now_is_tried_again_later(sqlite_database, supervisor, now, caplog):
    asked(sqlite_database, now)
    scheduler = Scheduler(sqlite_database, supervisor, now=lambda: now)
    with sqlite_database.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE phase_runs RENAME TO away")
        connection.commit()
        scheduler.advance()
        assert "advance failed" in caplog.text
        connection.exec_driver_sql("ALTER TABLE away RENAME TO phase_runs")
        connection.commit()
    scheduler.advance()
    assert state_of(sqlite_database, 1)["state"] == "running"
