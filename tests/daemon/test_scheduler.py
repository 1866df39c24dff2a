import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from daemon.errors import DaemonError
from daemon.iteration import find_iteration, iteration_record
from daemon.scheduler import Job, Scheduler
from daemon.scheduling.documents import ScheduleWish, add_schedule
from daemon.settings import Settings
from daemon.supervisor import Supervisor
from storage import episodes, iterations, phase_runs
from storage.db import Database
from storage.errors import StorageError


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


def test_while_the_database_keeps_another_time_no_live_worker_loses_its_run(postgres_url, supervisor, caplog):
    database, ahead = Database(postgres_url), timedelta(hours=1)
    asked(database, datetime.now(UTC))
    scheduler = Scheduler(database, supervisor, now=lambda: datetime.now(UTC) + ahead)
    Scheduler(database, supervisor, now=lambda: datetime.now(UTC)).advance()
    with database.write() as session:
        phase_runs.claim(session, "living", ttl_s=60, now=datetime.now(UTC))
    for _ in range(2):
        scheduler.advance()
    (run,) = state_of(database, 1)["phases"]
    assert (run["state"], run["worker"]) == ("running", "living")
    assert caplog.text.count("iterations stand still code=clock_skewed") == 1
    ahead = timedelta()
    with database.write() as session:
        phase_runs.cancel(session, state_of(database, 1)["id"], now=datetime.now(UTC))
        phase_runs.queue(session, find_iteration(session, 1), phase="collect", now=datetime.now(UTC))
        phase_runs.claim(session, "dead", ttl_s=-1, now=datetime.now(UTC))
    scheduler.advance()
    assert [run["state"] for run in state_of(database, 1)["phases"]][-2:] == ["abandoned", "queued"]
    database.dispose()


def test_a_job_that_is_handed_in_is_run_again_and_again(sqlite_database, supervisor):
    twice, seen = threading.Event(), []

    def count(at: datetime) -> str:
        seen.append(at)
        if len(seen) >= 2:
            twice.set()
        return "counted"

    jobs = [Job(name="count", run=count, every_s=0.01)]
    scheduler = Scheduler(sqlite_database, supervisor, now=lambda: datetime.now(UTC), jobs=jobs)
    scheduler.start()
    try:
        assert twice.wait(20)
    finally:
        scheduler.stop()
    assert seen[0] <= seen[1]


def test_a_job_that_is_to_come_later_does_not_come_at_the_start(sqlite_database, supervisor):
    seen = []
    jobs = [Job(name="later", run=seen.append, every_s=3600, first_after_s=3600)]
    scheduler = Scheduler(sqlite_database, supervisor, now=lambda: datetime.now(UTC), jobs=jobs)
    scheduler.start()
    assert supervisor.called_twice.wait(20)
    scheduler.stop()
    assert seen == []


@pytest.mark.parametrize("error", [OSError("disk"), StorageError("store"), DaemonError("daemon")])
def test_a_job_that_fails_is_told_and_tried_again_at_its_next_time(
    sqlite_database, supervisor, now, caplog, error
):
    caplog.set_level("INFO")
    errors = [error]

    def run(at: datetime) -> str | None:
        if errors:
            raise errors.pop()
        return "done after all"

    scheduler = Scheduler(sqlite_database, supervisor, now=lambda: now)
    job = Job(name="fragile", run=run, every_s=1)
    scheduler.run(job)
    assert "job failed job=fragile" in caplog.text
    scheduler.run(job)
    assert "done after all" in caplog.text


def test_schedules_are_looked_at_without_a_write_while_nothing_is_due(sqlite_database, supervisor, now):
    scheduler = Scheduler(sqlite_database, supervisor, now=lambda: now)
    wish = ScheduleWish.model_validate({"name": "s", "trigger": {"kind": "interval", "seconds": 60}})
    with sqlite_database.write() as session:
        add_schedule(session, wish, now=now)
    with sqlite_database.write() as session:  # somebody writes, and nobody waits for it
        session.execute(sa.text("SELECT 1"))
        assert scheduler.ask_for_due(now) is None
    due = now + timedelta(seconds=60)
    assert scheduler.ask_for_due(due) == "schedule due schedule=s outcome=requested"
    assert scheduler.ask_for_due(due) is None


def test_a_days_episodes_keep_an_iteration_from_collecting(sqlite_database, tmp_path, now, blobs, an_episode):
    settings = Settings(data_dir=tmp_path, worker_count=0, robot_episodes_per_day=1)
    at = [now]
    scheduler = Scheduler(sqlite_database, Supervisor(settings=settings), now=lambda: at[0])
    with sqlite_database.write() as session:
        episodes.commit(
            session, blobs, an_episode(1), provenance=episodes.Provenance(origin="collect"), now=now
        )
    asked(sqlite_database, now)
    scheduler.advance()
    assert state_of(sqlite_database, 1)["phases"] == []
    at[0] = now + timedelta(days=1)
    scheduler.advance()
    assert state_of(sqlite_database, 1)["phases"][0]["state"] == "queued"
