"""Before the disk is full nothing is begun, and a dead worker's run says why: seen from the worker's side."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from daemon.app import create_app, note_death
from daemon.console import said
from daemon.deaths import Death
from daemon.phases.sink import EpisodeSink
from daemon.phases.todo import Todo
from daemon.settings import Settings
from daemon.stores import open_database
from storage.errors import LeaseLost
from tests.daemon.test_phase_worker import Lab
from tests.daemon.test_supervisor import WAIT_FOR_PARENT, supervised

__all__ = ["supervised"]  # a fixture

PLENTY = 10**15


@pytest.fixture
def lab(sqlite_database, blobs, tmp_path, now):
    return Lab(sqlite_database, blobs, Settings(data_dir=tmp_path, lease_ttl_s=1.0), now)


class Disk:
    """As much room as the test says."""

    free = 0

    def __call__(self, folder):
        return self.free


def test_nothing_is_begun_without_room_and_the_iteration_says_so_and_goes_on_by_itself(lab, caplog):
    disk, done = Disk(), []
    worker = lab.worker(lambda context: done.append(1) or {}, measure=disk)
    for _ in range(3):
        assert not worker.work_once()
    (run,) = lab.record()["phases"]
    assert run["state"] == "queued"
    assert said(run).startswith("waiting for disk space: less than 500 MB are free under ")
    assert lab.record()["state"] == "running", "nothing failed"
    assert caplog.text.count("worker waits") == 1, "one line per event"
    disk.free = PLENTY
    assert worker.work_once()
    assert done == [1]
    assert lab.record()["phases"][0]["state"] == "finished"


def no_room(context):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_in_a_phase_costs_no_attempt(lab):
    attempts = []

    def collect(context):
        attempts.append(1)
        return no_room(context) if len(attempts) <= 9 else {"made": {}}

    worker = lab.worker(collect)
    for _ in range(10):
        assert worker.work_once()
        lab.advance()
    runs = [run for run in lab.record()["phases"] if run["phase"] == "collect"]
    assert [run["state"] for run in runs] == ["abandoned"] * 9 + ["finished"]
    assert {run["error"]["code"] for run in runs[:9]} == {"disk_full"}
    assert "No space left on device" in runs[0]["error"]["message"]


def test_a_phase_can_ask_how_the_disk_is(lab):
    disk, answers = Disk(), []
    disk.free = PLENTY

    def collect(context):
        answers.append(context.shortage())
        disk.free = 0
        answers.append(context.shortage())
        return {}

    lab.worker(collect, measure=disk).work_once()
    assert answers[0] is None
    assert "waiting for disk space" in answers[1]


def test_no_episode_is_begun_without_room(lab):
    """The sink is where every robot says what it does next."""
    told = []

    def collect(context):
        shortages = iter(["no room", None])
        short = replace(
            context, shortage=lambda: next(shortages), report=lambda share, text: told.append(text)
        )
        EpisodeSink(short).tell(Todo([], total=1), "episode 1 of 1")
        return {}

    lab.worker(collect).work_once()
    assert told == ["no room", "episode 1 of 1"]


def test_whoever_waits_for_room_notices_that_its_lease_is_lost(lab):
    def lost(share, text):
        raise LeaseLost(name="n", fence=1, current=2, holder=None)

    def collect(context):
        short = replace(context, shortage=lambda: "no room", report=lost)
        with pytest.raises(LeaseLost):
            EpisodeSink(short).tell(Todo([], total=1), "episode 1 of 1")
        return {}

    assert lab.worker(collect).work_once()
    assert lab.record()["phases"][0]["state"] == "finished"


def test_a_daemon_without_room_is_not_ready_and_says_so(tmp_path):
    settings = Settings(data_dir=tmp_path, worker_count=0, min_free_disk_mb=10**9)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "waiting for disk space" in answer.json()["checks"]["disk"]
        assert client.post("/v1/iterations", json={}).status_code == 201, "it may be asked for, and waits"


@pytest.mark.parametrize(("counts", "code"), [((3, 3), "worker_killed"), ((3, 4), "worker_out_of_memory")])
def test_a_worker_that_was_killed_is_told_of_with_what_the_kernel_counted(supervised, counts, code, caplog):
    supervisor, _ = supervised(WAIT_FOR_PARENT)
    told, counted = [], iter(counts)
    supervisor.on_death = lambda worker, death: told.append((worker, death.code))
    supervisor.count_kills = lambda: next(counted)
    supervisor.check()
    supervisor.slots[0].child.kill()
    supervisor.slots[0].child.wait()
    supervisor.check()
    assert told == [(supervisor.slots[0].name, code)]
    assert f"code={code}" in caplog.text


def test_a_worker_that_leaves_in_peace_is_no_death(supervised):
    supervisor, _ = supervised("raise SystemExit(0)")
    supervisor.on_death = lambda worker, death: pytest.fail("nobody died")
    supervisor.check()
    supervisor.slots[0].child.wait()
    supervisor.check()


def test_a_death_ends_the_run_at_once_and_its_message_says_why(lab):
    started, go = threading.Event(), threading.Event()

    def collect(context):
        started.set()
        go.wait(20)
        return {}

    thread = threading.Thread(target=lab.worker(collect, name="w-1").work_once)
    thread.start()
    assert started.wait(20)
    note_death(lab.database, "w-1", Death(code="worker_killed", message="killed, most likely for memory"))
    lab.advance()
    go.set()
    thread.join()
    first, second = lab.record()["phases"]
    assert first["error"] == {"code": "worker_killed", "message": "killed, most likely for memory"}
    assert (first["state"], second["state"]) == ("abandoned", "queued")


def test_a_database_that_cannot_be_told_of_a_death_stops_nobody(tmp_path, caplog):
    database = open_database(Settings(data_dir=tmp_path))
    note_death(database, "w", Death(code="worker_killed", message="killed"))
    assert "death not noted" in caplog.text
    database.dispose()
