import threading
from datetime import timedelta

import pytest

from daemon.heartbeat import Heartbeat, PauseAsked, WorkerStopped
from storage import iterations, phase_runs
from storage.errors import LeaseLost

TTL_S = 0.08  # a beat every 20 ms


class Run:
    """A claimed run and the instants at which it is looked at."""

    def __init__(self, database, now) -> None:
        self.database, self.instant, self.stop, self.left = database, now, threading.Event(), []
        with database.write() as session:
            row, _ = iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
            phase_runs.queue(session, row, phase="collect", now=now)
            self.claimed = phase_runs.claim(session, "w", ttl_s=TTL_S, now=now)

    def heartbeat(self, stall_after_s: float = 60.0) -> Heartbeat:
        return Heartbeat(
            self.database,
            self.claimed,
            stop=self.stop,
            stall_after_s=stall_after_s,
            now=lambda: self.instant,
            leave=lambda: self.left.append(True),
        )

    def row(self):
        with self.database.read() as session:
            return phase_runs.get(session, self.claimed.phase_run_id)


def until(condition, attempts: int = 2000):
    pause = threading.Event()
    for _ in range(attempts):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it never came to that")


@pytest.fixture
def run(sqlite_database, now):
    return Run(sqlite_database, now)


def test_the_lease_is_held_by_beats_not_by_the_first_claim(run):
    with run.heartbeat():
        for _ in range(3):
            before = run.row().heartbeat_at
            run.instant += timedelta(seconds=TTL_S * 0.9)
            until(lambda before=before: run.row().heartbeat_at > before)
        with run.database.write() as session:
            assert phase_runs.claim(session, "other", ttl_s=TTL_S, now=run.instant) is None


def test_nothing_beats_after_the_end(run):
    with run.heartbeat() as heartbeat:
        heartbeat.report(0.5, "half")
    beaten = run.row().heartbeat_at
    run.instant += timedelta(hours=1)
    assert not {thread.name for thread in threading.enumerate()} & {"heartbeat", "stall-watch"}
    assert run.row().heartbeat_at == beaten


def test_the_last_report_is_the_one_that_is_told(run):
    with run.heartbeat() as heartbeat:
        heartbeat.report(0.25, "early")
        heartbeat.report(0.75, "late")
        until(lambda: run.row().progress_text == "late")
    assert run.row().progress == 0.75


def test_a_lost_lease_is_told_at_the_next_report(run, caplog):
    with run.heartbeat() as heartbeat:
        with run.database.write() as session:
            phase_runs.cancel(session, run.claimed.iteration_id, now=run.instant)
        until(lambda: "lease lost" in caplog.text)
        with pytest.raises(LeaseLost):
            heartbeat.report(0.5, "half")


def test_a_stop_is_told_at_the_next_report(run):
    with run.heartbeat() as heartbeat:
        heartbeat.report(0.1, "on")
        run.stop.set()
        with pytest.raises(WorkerStopped):
            heartbeat.report(0.2, "off")


def test_a_stop_is_no_fault_that_a_phase_could_swallow():
    assert not issubclass(WorkerStopped, Exception)
    assert not issubclass(PauseAsked, Exception)


def test_a_database_that_fails_for_a_moment_costs_a_beat_not_the_run(run, caplog):
    with run.heartbeat() as heartbeat:
        with run.database.engine.connect() as connection:
            connection.exec_driver_sql("ALTER TABLE leases RENAME TO away")
            connection.commit()
            until(lambda: "heartbeat missed" in caplog.text)
            connection.exec_driver_sql("ALTER TABLE away RENAME TO leases")
            connection.commit()
        heartbeat.report(0.9, "still here")
        until(lambda: run.row().progress_text == "still here")


def test_silence_gives_the_run_to_the_next_attempt_and_ends_the_process(run):
    with run.heartbeat(stall_after_s=0.05):
        until(lambda: run.left)
    assert run.left == [True]
    assert (run.row().state, run.row().error_code) == ("failed", "phase_stalled")
    with run.database.write() as session:
        assert phase_runs.claim(session, "other", ttl_s=1.0, now=run.instant).attempt == 2


class Away:
    """A database behind whose `write` nothing comes back until it is there again."""

    def __init__(self, database) -> None:
        self.there, self.asked, self._database = threading.Event(), threading.Event(), database

    def write(self):
        self.asked.set()
        assert self.there.wait(60.0)
        return self._database.write()


@pytest.fixture
def away(run):
    run.database = away = Away(run.database)
    yield away
    away.there.set()


def test_silence_ends_the_process_also_while_a_beat_waits_for_the_database(run, away, monkeypatch, caplog):
    monkeypatch.setattr("daemon.heartbeat.GIVE_BACK_S", 0.1)
    with run.heartbeat(stall_after_s=0.3):
        assert away.asked.wait(5.0)
        until(lambda: run.left)
        away.there.set()
    assert run.left == [True]
    assert "left without giving back phase=collect" in caplog.text


def test_the_end_of_a_phase_waits_for_a_beat_that_hangs_only_so_long(run, away, monkeypatch, caplog):
    monkeypatch.setattr("daemon.heartbeat.JOIN_S", 0.1)
    with run.heartbeat():
        assert away.asked.wait(5.0)
    assert "heartbeat still waits for the database phase=collect" in caplog.text
    assert not run.left


def test_silence_ends_the_process_also_of_a_phase_that_has_lost_its_lease(run, caplog):
    with run.heartbeat(stall_after_s=0.4):
        with run.database.write() as session:
            phase_runs.cancel(session, run.claimed.iteration_id, now=run.instant)
        until(lambda: "lease lost" in caplog.text)
        until(lambda: run.left)
    assert run.left == [True]
