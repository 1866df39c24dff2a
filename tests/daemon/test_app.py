"""The daemon as a process: served, supervised, killed, refused."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from daemon.app import create_app, listening_socket, running
from daemon.client import DaemonClient
from daemon.errors import DataDirectoryBusy
from daemon.settings import Settings
from storage.phase_runs import PHASES

QUICK_WORKER = Path(__file__).parent / "quick_worker.py"
SERVE = """
import sys
from daemon.app import serve
from daemon.logs import configure_logging
from daemon.settings import load_settings

def announce(url):
    sys.stdout.write(url + "\\n")
    sys.stdout.flush()

configure_logging("INFO")
serve(load_settings(), announce=announce, worker_command=(sys.executable, sys.argv[1]))
sys.stdout.write("took everything down\\n")
"""


@contextmanager
def served(data_dir: Path, **variables: str) -> Iterator[tuple[DaemonClient, subprocess.Popen[str]]]:
    """A daemon on a free port with quick workers; killed at the end if it is still there."""
    environment = {
        **os.environ,
        "GYMNASTD_DATA_DIR": str(data_dir),
        "GYMNASTD_PORT": "0",
        "GYMNASTD_LEASE_TTL_S": "1",
        "GYMNASTD_POLL_S": "0.05",
        **variables,
    }
    log = data_dir.with_suffix(".log").open("a")
    command = [sys.executable, "-c", SERVE, str(QUICK_WORKER)]
    with (
        log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            yield DaemonClient(process.stdout.readline().strip()), process
        finally:
            process.kill()


def until(condition, attempts: int = 1500):
    pause = threading.Event()
    for _ in range(attempts):
        found = condition()
        if found:
            return found
        pause.wait(0.01)
    raise AssertionError("the other process never got there")


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def walked(data_dir: Path) -> list[str]:
    return (data_dir / "walked").read_text().split()


@pytest.fixture
def data_dir(tmp_path):
    (tmp_path / "lab").mkdir()
    return tmp_path / "lab"


def test_an_iteration_asked_for_over_rest_is_run_to_its_end_by_a_worker_process(data_dir):
    with served(data_dir) as (client, _):
        number = client.request_iteration({"seed": 4})["number"]
        record = client.wait(number, poll_s=0.05, timeout_s=60)
        assert [run["phase"] for run in record["phases"]] == list(PHASES)
        assert record["checkpoints"]["made"] == dict.fromkeys(PHASES, "1")
        assert client.curves(number) == {phase: {"loss": [[1.0, 0.5]]} for phase in PHASES}
        assert until(client.ready)
    assert walked(data_dir) == list(PHASES)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_a_worker_killed_in_a_phase_is_replaced_and_the_iteration_goes_on_from_that_phase(data_dir, phase):
    (data_dir / f"hold-{phase}").touch()
    with served(data_dir, GYMNASTD_LEASE_TTL_S="60") as (client, _):
        number = client.request_iteration({})["number"]
        pid = int(
            until(lambda: (data_dir / f"in-{phase}").exists() and (data_dir / f"in-{phase}").read_text())
        )
        os.kill(pid, signal.SIGKILL)
        (data_dir / f"hold-{phase}").unlink()
        record = client.wait(number, poll_s=0.05, timeout_s=60)
    tries = {name: walked(data_dir).count(name) for name in PHASES}
    assert tries == {name: 2 if name == phase else 1 for name in PHASES}
    states = {(run["phase"], run["attempt"]): run["state"] for run in record["phases"]}
    assert states[(phase, 1)] == "abandoned"
    assert states[(phase, 2)] == "finished"
    (killed,) = (run for run in record["phases"] if run["state"] == "abandoned")
    assert killed["error"]["code"] == "worker_killed"
    assert "killed, most likely for memory" in killed["error"]["message"]


@pytest.mark.slow
def test_a_daemon_killed_in_a_phase_takes_its_workers_along_and_its_successor_goes_on(data_dir):
    (data_dir / "hold-finetune_world_model").touch()
    marker = data_dir / "in-finetune_world_model"
    with served(data_dir) as (client, process):
        number = client.request_iteration({})["number"]
        worker = int(until(lambda: marker.exists() and marker.read_text()))
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: gone(worker))
    (data_dir / "hold-finetune_world_model").unlink()
    with served(data_dir) as (client, _):
        assert client.wait(number, poll_s=0.05, timeout_s=60)["state"] == "finished"
    assert walked(data_dir).count("collect") == 1, "a finished phase is not repeated"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_daemon_gives_the_phase_back_and_leaves_no_process(data_dir, number):
    (data_dir / "hold-collect").touch()
    marker = data_dir / "in-collect"
    with served(data_dir) as (client, process):
        client.request_iteration({})
        worker = int(until(lambda: marker.exists() and marker.read_text()))
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
        assert process.stdout.read() == "took everything down\n"
        assert gone(worker)
    settings = Settings(data_dir=data_dir, worker_count=0)
    with TestClient(create_app(settings)) as client:
        runs = client.get("/v1/iterations/1").json()["phases"]
    assert [run["state"] for run in runs] == ["abandoned", "queued"]
    assert runs[0]["error"]["code"] == "released"


def test_a_second_daemon_on_the_same_data_is_refused_and_disturbs_nothing(data_dir):
    with served(data_dir) as (client, process):
        settings = Settings(data_dir=data_dir, worker_count=0)
        with pytest.raises(DataDirectoryBusy, match=f"pid {process.pid}"), running(settings):
            pass
        number = client.request_iteration({})["number"]
        assert client.wait(number, poll_s=0.05, timeout_s=60)["state"] == "finished"


def test_the_refusal_reaches_whoever_starts_the_application_too(data_dir):
    settings = Settings(data_dir=data_dir, worker_count=0)
    with running(settings), pytest.raises(DataDirectoryBusy), TestClient(create_app(settings)):
        pass


def test_a_daemon_without_workers_keeps_what_is_asked_for_later(data_dir):
    settings = Settings(data_dir=data_dir, worker_count=0)
    with TestClient(create_app(settings)) as client:
        assert client.post("/v1/iterations", json={}).status_code == 201
        until(lambda: client.get("/v1/iterations/1").json()["phases"])
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/iterations/1").json()["phases"][0]["state"] == "queued"


def test_a_taken_address_is_refused_before_anything_starts(data_dir):
    with listening_socket("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            listening_socket("127.0.0.1", taken.getsockname()[1])


def test_the_address_is_announced_with_the_port_that_was_found(data_dir):
    with served(data_dir) as (client, _):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", client.url)
        host, port = client.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))):
            assert client.iterations()["items"] == []
