import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.iteration import advance, find_iteration, iteration_record
from daemon.spec import parse_spec
from storage import iterations

QUICK_WORKER = Path(__file__).parent / "quick_worker.py"


def until(condition, attempts: int = 2000):
    pause = threading.Event()
    for _ in range(attempts):
        found = condition()
        if found:
            return found
        pause.wait(0.01)
    raise AssertionError("the worker never got there")


@contextmanager
def worker(lab, sqlite_url, *arguments, **variables):
    environment = {
        **os.environ,
        "GYMNASTD_DATA_DIR": str(lab),
        "GYMNASTD_DATABASE_URL": sqlite_url,
        "GYMNASTD_POLL_S": "0.02",
        **variables,
    }
    command = [sys.executable, str(QUICK_WORKER), *arguments]
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "lab").mkdir()
    return tmp_path / "lab"


@pytest.fixture
def queued(sqlite_database, now):
    with sqlite_database.write() as session:
        iterations.request_iteration(session, spec=parse_spec({}).document(), idempotency_key=None, now=now)
        advance(session, now=now)


def first_phase(database):
    with database.read() as session:
        return iteration_record(session, find_iteration(session, 1))["phases"]


@pytest.mark.usefixtures("queued")
def test_a_worker_does_what_is_queued_under_the_name_it_was_given(lab, sqlite_url, sqlite_database):
    with worker(lab, sqlite_url, "--name", "bench-3"):
        until(lambda: first_phase(sqlite_database)[0]["state"] == "finished")
    assert first_phase(sqlite_database)[0]["worker"] == "bench-3"


@pytest.mark.usefixtures("queued")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_gives_the_run_back_and_ends_with_status_0(lab, sqlite_url, sqlite_database, number):
    (lab / "hold-collect").touch()
    with worker(lab, sqlite_url) as process:
        until((lab / "in-collect").exists)
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert "phase given back" in process.stderr.read()
    assert [run["state"] for run in first_phase(sqlite_database)] == ["abandoned", "queued"]


def test_an_idle_worker_leaves_at_once(lab, sqlite_url, sqlite_database):
    with worker(lab, sqlite_url) as process:
        until(lambda: "worker ready" in process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.mark.usefixtures("queued")
def test_a_supervised_worker_gives_its_run_back_when_the_daemon_is_gone(lab, sqlite_url, sqlite_database):
    (lab / "hold-collect").touch()
    with worker(lab, sqlite_url, "--supervised") as process:
        until((lab / "in-collect").exists)
        process.stdin.close()
        assert process.wait(timeout=20) == 0
    assert first_phase(sqlite_database)[0]["error"]["code"] == "released"


@pytest.mark.usefixtures("queued")
def test_a_worker_started_by_hand_does_not_care_for_its_standard_input(lab, sqlite_url, sqlite_database):
    with worker(lab, sqlite_url) as process:
        process.stdin.close()
        until(lambda: first_phase(sqlite_database)[0]["state"] == "finished")
        assert process.poll() is None


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"GYMNASTD_COLOUR": "red"}, "setting_unknown"),
        ({"GYMNASTD_POLL_S": "-1"}, "setting_invalid"),
        ({"GYMNASTD_DATABASE_URL": "mysql://nowhere"}, "database_url_invalid"),
    ],
)
def test_a_worker_that_cannot_work_says_why_and_ends_with_status_1(lab, sqlite_url, variables, code):
    with worker(lab, sqlite_url, **variables) as process:
        assert process.wait(timeout=20) == 1
        assert code in process.stderr.read()


def test_a_worker_on_an_empty_database_says_what_is_missing(lab, tmp_path):
    with worker(lab, f"sqlite:///{tmp_path}/new.sqlite3") as process:
        assert process.wait(timeout=20) == 1
        assert "database_outdated" in process.stderr.read()
