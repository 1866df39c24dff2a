import json
import os
import signal
import sys
from pathlib import Path

import pytest

from daemon.settings import Settings
from daemon.supervisor import Supervisor, thread_environment, worker_environment

# A worker stand-in: says who it is, then waits as the case wants. It is a real process with a real child.
WAIT_FOR_PARENT = """
import os, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
here = pathlib.Path(os.environ["GYMNASTD_DATA_DIR"])
(here / f"{os.getpid()}.tmp").write_text(f"{child.pid}")
(here / f"{os.getpid()}.tmp").rename(here / f"{os.getpid()}.child")
sys.stdin.buffer.read()
child.kill()
"""
IGNORE_EVERYTHING = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    + WAIT_FOR_PARENT.replace("sys.stdin.buffer.read()", "import time; time.sleep(600)")
)
DIE_AT_ONCE = "raise SystemExit(3)"


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def supervised(tmp_path):
    made = []

    def make(source: str, *, workers: int = 1) -> tuple[Supervisor, Clock]:
        clock = Clock()
        settings = Settings(data_dir=tmp_path, worker_count=workers)
        supervisor = Supervisor(settings=settings, command=(sys.executable, "-c", source), clock=clock)
        made.append(supervisor)
        return supervisor, clock

    yield make
    for supervisor in made:
        supervisor.stop(grace_s=0.0)


def until(condition, attempts: int = 4000):
    """Poll a condition of another process; the bound is on attempts, each a short wait for any child."""
    import select

    for _ in range(attempts):
        found = condition()
        if found:
            return found
        select.select([], [], [], 0.005)
    raise AssertionError("the other process never got there")


def children(folder: Path) -> dict[int, int]:
    return {int(path.stem): int(path.read_text()) for path in folder.glob("*.child")}


def gone(pid: int) -> bool:
    """Nobody has this pid, or only as an entry that its parent has not read yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_as_many_workers_start_as_the_settings_say(supervised, tmp_path):
    supervisor, _ = supervised(WAIT_FOR_PARENT, workers=2)
    supervisor.check()
    until(lambda: len(children(tmp_path)) == 2)
    assert supervisor.alive() == 2


def test_no_worker_starts_when_they_are_started_by_hand(supervised):
    supervisor, _ = supervised(WAIT_FOR_PARENT, workers=0)
    supervisor.check()
    assert supervisor.alive() == 0


def test_a_check_leaves_a_living_worker_alone(supervised):
    supervisor, _ = supervised(WAIT_FOR_PARENT)
    supervisor.check()
    first = supervisor.slots[0].child
    supervisor.check()
    assert supervisor.slots[0].child is first


def test_a_killed_worker_is_replaced_once_its_backoff_is_over(supervised, caplog):
    supervisor, clock = supervised(WAIT_FOR_PARENT)
    supervisor.check()
    supervisor.slots[0].child.kill()
    supervisor.slots[0].child.wait()
    supervisor.check()
    assert supervisor.alive() == 0, "the backoff is not over"
    assert "worker ended" in caplog.text
    clock.seconds += 0.6
    supervisor.check()
    assert supervisor.alive() == 1
    assert supervisor.slots[0].starts == 2


def test_a_worker_that_keeps_dying_is_started_less_and_less_often(supervised):
    supervisor, clock = supervised(DIE_AT_ONCE)
    waits = []
    for _ in range(9):
        supervisor.check()
        supervisor.slots[0].child.wait()
        supervisor.check()
        waits.append(supervisor.slots[0].next_start_at - clock.seconds)
        clock.seconds = supervisor.slots[0].next_start_at
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_worker_that_lived_long_starts_its_backoff_anew(supervised):
    supervisor, clock = supervised(WAIT_FOR_PARENT)
    supervisor.check()
    supervisor.slots[0].backoff_s = 16.0
    clock.seconds += 61.0
    supervisor.slots[0].child.kill()
    supervisor.slots[0].child.wait()
    supervisor.check()
    assert supervisor.slots[0].next_start_at == clock.seconds + 0.5


def test_what_a_dead_worker_started_is_killed_with_it(supervised, tmp_path):
    supervisor, _ = supervised(WAIT_FOR_PARENT)
    supervisor.check()
    grandchild = next(iter(until(lambda: children(tmp_path)).values()))
    supervisor.slots[0].child.kill()
    supervisor.slots[0].child.wait()
    assert not gone(grandchild)
    supervisor.check()
    until(lambda: gone(grandchild))


@pytest.mark.parametrize("source", [WAIT_FOR_PARENT, IGNORE_EVERYTHING])
def test_stop_leaves_nothing_behind_however_stubborn_it_is(supervised, tmp_path, source):
    supervisor, _ = supervised(source)
    supervisor.check()
    worker, grandchild = next(iter(until(lambda: children(tmp_path)).items()))
    supervisor.stop(grace_s=0.2)
    assert gone(worker)
    until(lambda: gone(grandchild))
    assert supervisor.alive() == 0


def test_nothing_starts_after_stop(supervised):
    supervisor, _ = supervised(WAIT_FOR_PARENT)
    supervisor.stop(grace_s=0.0)
    supervisor.check()
    assert supervisor.alive() == 0


PARENT = """
import pathlib, sys
from daemon.settings import Settings
from daemon.supervisor import Supervisor
settings = Settings(data_dir=pathlib.Path(sys.argv[1]))
supervisor = Supervisor(settings=settings, command=(sys.executable, "-c", sys.argv[2]))
supervisor.check()
sys.stdin.read()
"""


def test_workers_leave_when_the_daemon_is_killed_outright(tmp_path):
    import subprocess

    command = [sys.executable, "-c", PARENT, str(tmp_path), WAIT_FOR_PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as parent:
        worker, grandchild = next(iter(until(lambda: children(tmp_path)).items()))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        until(lambda: gone(worker) and gone(grandchild))


def test_a_worker_gets_the_daemons_settings_and_its_threads(tmp_path):
    settings = Settings(data_dir=tmp_path, port=9009, threads_per_worker=3)
    environment = worker_environment(settings, {"PATH": "p", "GYMNASTD_PORT": "1", "GYMNASTD_OLD": "x"})
    assert environment["GYMNASTD_PORT"] == "9009"
    assert environment["GYMNASTD_DATA_DIR"] == str(tmp_path)
    assert "GYMNASTD_DATABASE_URL" not in environment, "unset stays unset"
    assert "GYMNASTD_OLD" not in environment
    assert environment["PATH"] == "p"
    assert environment["OMP_NUM_THREADS"] == "3"


def test_the_settings_survive_the_way_through_the_environment(tmp_path, monkeypatch):
    settings = Settings(
        data_dir=tmp_path,
        database_url="sqlite:///x.db",
        trust_network=True,
        lease_ttl_s=2.5,
        autoeval_boxes={"open_drawer": ((0.1, -0.2, 0.0), (0.4, 0.1, 0.2))},
    )
    for name, value in worker_environment(settings, {}).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_idle_threads_sleep():
    assert thread_environment(1) == {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def test_workers_are_told_a_name_that_no_other_worker_has(supervised):
    supervisor, _ = supervised(WAIT_FOR_PARENT, workers=3)
    names = [slot.name for slot in supervisor.slots]
    assert len(set(names)) == 3
    assert all(str(os.getpid()) in name for name in names)
    assert json.dumps(names)


TELLS_ITS_DEVICE = """
import os, pathlib, sys
here, name = pathlib.Path(os.environ["GYMNASTD_DATA_DIR"]), sys.argv[sys.argv.index("--name") + 1]
(here / f"{name}.tmp").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "everything"))
(here / f"{name}.tmp").rename(here / f"{name}.device")
sys.stdin.buffer.read()
"""


@pytest.mark.parametrize(
    ("devices", "seen"),
    [
        ("", ["everything"] * 3),
        ("0,1,2", ["0", "1", "2"]),
        ("0, GPU-8f1c", ["0", "GPU-8f1c", "0"]),  # the third begins with the first again
    ],
)
def test_each_worker_sees_the_device_of_its_place_also_after_a_restart(tmp_path, monkeypatch, devices, seen):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    clock = Clock()
    settings = Settings(data_dir=tmp_path, worker_count=3, worker_devices=devices)
    supervisor = Supervisor(settings=settings, command=(sys.executable, "-c", TELLS_ITS_DEVICE), clock=clock)

    def told() -> list[str]:
        files = sorted(tmp_path.glob("*.device"))
        return [file.read_text() for file in files] if len(files) == 3 else []

    try:
        supervisor.check()
        assert until(told) == seen
        for file in tmp_path.glob("*.device"):
            file.unlink()
        for slot in supervisor.slots:
            slot.child.kill()
            slot.child.wait()
        supervisor.check()
        clock.seconds += 60
        supervisor.check()
        assert until(told) == seen
    finally:
        supervisor.stop(grace_s=0.0)


def test_a_device_of_the_daemons_own_environment_is_not_the_workers(tmp_path):
    environ = {"CUDA_VISIBLE_DEVICES": "7"}
    settings = Settings(data_dir=tmp_path)
    assert worker_environment(settings, environ, device="1")["CUDA_VISIBLE_DEVICES"] == "1"
    assert worker_environment(settings, environ)["CUDA_VISIBLE_DEVICES"] == "7"
