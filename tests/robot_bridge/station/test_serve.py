"""A station as a program: bound to loopback, and killed, with what it keeps and what it must not repeat."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robot_bridge.client import StationClient
from robot_bridge.errors import (
    BindRefused,
    EStopped,
    SpoolBusy,
    StationUnreachable,
    UnknownOutcome,
)
from robot_bridge.station.estop import EStopLatch
from robot_bridge.station.serve import Binding, running_station, serve_station
from robot_bridge.transport import Retries
from tests.robot_bridge.builders import a_request, forward
from tests.robot_bridge.toy_driver import ToyDriver

PROGRAM = Path(__file__).with_name("toy_station.py")
Start = Callable[..., tuple[subprocess.Popen[str], StationClient]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts station programs on one spool, and clients of theirs that try twice without waiting."""
    programs: list[subprocess.Popen[str]] = []
    clients: list[StationClient] = []

    def begin(*, die_at: int = 0) -> tuple[subprocess.Popen[str], StationClient]:
        command = [sys.executable, str(PROGRAM), str(tmp_path / "spool"), str(tmp_path / "log"), str(die_at)]
        programs.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert programs[-1].stdout is not None
        url = programs[-1].stdout.readline().strip()
        clients.append(StationClient(url, retries=Retries(tries=2, pause=lambda _: None)))
        return programs[-1], clients[-1]

    yield begin
    for client in clients:
        client.close()
    for program in programs:
        if program.poll() is None:
            program.kill()
        program.communicate()


def moves(tmp_path: Path) -> int:
    log = tmp_path / "log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def run_episode(client: StationClient, episode_id: str, steps: int = 6) -> str:
    """One whole episode; gives the digest of its manifest."""
    client.create_episode(a_request(episode_id=episode_id, max_steps=steps))
    client.step(episode_id, 0, forward(steps))
    return client.finish(episode_id).digest


def test_finished_episodes_that_nobody_acknowledged_survive_a_killed_station(start, tmp_path):
    program, client = start()
    client.acquire_lease("daemon")
    digests = {name: run_episode(client, name) for name in ("e1", "e2", "e3")}
    client.ack(client.fetch_episode("e2"))
    os.kill(program.pid, signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL

    _, client = start()
    assert {e.episode_id: e.manifest_sha256 for e in client.waiting_episodes()} == {
        "e1": digests["e1"],
        "e3": digests["e3"],
    }
    for name in ("e1", "e3"):
        episode = client.fetch_episode(name)
        assert (episode.digest, episode.manifest.T, len(episode.frames)) == (digests[name], 6, 7)
        assert episode.frames.decode_all().shape == (7, 32, 32, 3)
        client.ack(episode)
    assert client.waiting_episodes() == ()
    assert moves(tmp_path) == 18


def test_a_step_during_which_the_station_died_is_never_executed_again(start, tmp_path):
    program, client = start(die_at=3)
    client.acquire_lease("daemon")
    client.create_episode(a_request(episode_id="e1"))
    client.step("e1", 0, forward(2))
    with pytest.raises(StationUnreachable) as unreachable:
        client.step("e1", 2, forward(1))
    assert unreachable.value.retryable
    assert program.wait() == -signal.SIGKILL

    _, client = start()
    client.acquire_lease("daemon")
    with pytest.raises(UnknownOutcome, match="step 2"):
        client.step("e1", 2, forward(1))
    assert moves(tmp_path) == 3
    assert client.waiting_episodes() == ()
    run_episode(client, "e2")
    assert moves(tmp_path) == 9


def test_fences_rise_over_a_killed_station(start):
    program, client = start()
    first = client.acquire_lease("daemon").fence
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    _, client = start()
    assert client.acquire_lease("other").fence == first + 1


def test_an_emergency_stop_survives_a_killed_station_until_somebody_clears_it_there(start, tmp_path):
    program, client = start()
    client.estop("hand in the cell")
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    _, client = start()
    assert client.status().state == "ESTOPPED"
    with pytest.raises(EStopped, match="hand in the cell"):
        client.acquire_lease("daemon")
    EStopLatch(tmp_path / "spool").clear()
    client.acquire_lease("daemon")
    run_episode(client, "e1")


def test_a_station_that_is_asked_to_end_keeps_the_open_episode(start):
    program, client = start()
    client.acquire_lease("daemon")
    client.create_episode(a_request(episode_id="e1"))
    client.step("e1", 0, forward(2))
    client.close()
    program.terminate()
    assert program.wait() == -signal.SIGTERM
    _, client = start()
    episode = client.fetch_episode("e1")
    assert (episode.manifest.outcome, episode.manifest.T) == ("aborted_lease", 2)


def test_the_heartbeat_of_a_killed_daemon_stops_and_the_next_one_gets_the_robot(start, tmp_path):
    """The lease runs out by itself and the station, uncalled, puts the abandoned episode into the spool."""
    _, client = start()
    client.acquire_lease("first daemon", ttl_s=0.5)
    client.create_episode(a_request(episode_id="e1"))
    client.step("e1", 0, forward(2))
    spooled = tmp_path / "spool" / "episodes" / "e1"
    while not spooled.exists():  # nobody calls the station: its own watch must do it
        os.sched_yield()
    with client.leased("second daemon"):
        assert run_episode(client, "e2")
    assert client.fetch_episode("e1").manifest.outcome == "aborted_lease"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org", ""])  # noqa: S104
def test_a_station_without_a_password_listens_on_loopback_only(tmp_path, host):
    with pytest.raises(BindRefused, match="loopback"):
        serve_station(
            ToyDriver(),
            binding=Binding(host=host),
            spool=tmp_path,
            station_id="bench",
            announce=lambda _: None,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_second_station_on_the_same_spool_is_refused_and_lets_go_of_its_port(tmp_path):
    with (
        running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench"),
        socket.socket() as probe,
    ):
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        with pytest.raises(SpoolBusy):
            serve_station(
                ToyDriver(),
                binding=Binding(port=port),
                spool=tmp_path / "spool",
                station_id="two",
                announce=lambda _: None,
            )
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))


def test_a_station_in_a_thread_closes_its_driver_and_frees_its_spool(tmp_path):
    driver = ToyDriver()
    for _ in range(2):
        with running_station(driver, spool=tmp_path / "spool", station_id="bench") as url:
            client = StationClient(url)
            assert client.status().state == "IDLE"
            client.close()
    assert driver.closed == 2
