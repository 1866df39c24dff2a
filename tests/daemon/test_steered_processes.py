"""Steering a real worker process in mid-phase: it stops where it is asked to, and goes on where it may."""

import signal
from pathlib import Path

import pytest

from daemon.client import DaemonClient
from storage.phase_runs import PHASES
from tests.daemon.test_app import served, walked
from tests.waiting import until


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "lab").mkdir()
    return tmp_path / "lab"


def hold(data_dir: Path, phase: str) -> Path:
    """A worker that comes to this phase stays in it, reporting, until the file is gone."""
    held = data_dir / f"hold-{phase}"
    held.touch()
    return held


def in_mid_phase(client: DaemonClient, data_dir: Path, phase: str) -> int:
    """Ask for an iteration and wait until a worker is in that phase of it."""
    number = client.request_iteration({})["number"]
    until((data_dir / f"in-{phase}").exists, f"a worker in {phase}")
    return number


def states(record: dict, phase: str) -> list[str]:
    return [run["state"] for run in record["phases"] if run["phase"] == phase]


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_a_pause_in_mid_phase_outlives_the_daemon_and_a_resume_goes_on_from_that_phase(
    data_dir: Path, phase: str
) -> None:
    held = hold(data_dir, phase)
    with served(data_dir) as (client, process):
        number = in_mid_phase(client, data_dir, phase)
        client.pause(number)
        until(lambda: client.iteration(number)["state"] == "paused", "the pause")
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = walked(data_dir)
    with served(data_dir) as (client, _):
        until(client.ready, "a daemon that advances iterations and has a worker")
        record = client.iteration(number)
        assert record["state"] == "paused"
        assert states(record, phase) == ["abandoned", "queued"]
        assert walked(data_dir) == done, "nobody took it up"
        held.unlink()
        client.resume(number)
        record = client.wait(number, poll_s=0.05, timeout_s=60)
    assert states(record, phase) == ["abandoned", "finished"]
    assert {name: walked(data_dir).count(name) for name in PHASES} == {
        name: 2 if name == phase else 1 for name in PHASES
    }


def test_a_cancel_in_mid_phase_sets_the_worker_free_for_the_next_iteration(data_dir: Path) -> None:
    hold(data_dir, "collect")
    with served(data_dir) as (client, _):
        number = in_mid_phase(client, data_dir, "collect")
        assert client.cancel(number)["state"] == "cancelled"
        after = client.request_iteration({"phases": ["update_policy"]})["number"]
        record = client.wait(after, poll_s=0.05, timeout_s=60)
        assert states(client.iteration(number), "collect") == ["abandoned"]
    assert [run["phase"] for run in record["phases"]] == ["update_policy"]


def test_a_phase_that_is_skipped_while_it_runs_is_left_and_the_iteration_ends(data_dir: Path) -> None:
    hold(data_dir, "finetune_world_model")
    with served(data_dir) as (client, _):
        number = in_mid_phase(client, data_dir, "finetune_world_model")
        client.skip(number, "finetune_world_model")
        record = client.wait(number, poll_s=0.05, timeout_s=60)
    assert [run["state"] for run in record["phases"]] == ["finished", "skipped", "finished"]
