"""`gymnastd estop`: one command stops every robot, says which stand, and fails where one was not reached."""

import json

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.client import DaemonClient
from daemon.errors import DaemonRefused
from daemon.settings import Settings
from robot_bridge.client import StationClient
from robot_bridge.station.serve import running_station
from storage import access_tokens, audit
from tests.daemon.serving import serving
from tests.robot_bridge.toy_driver import ToyDriver

NOBODY_THERE = "http://127.0.0.1:9"


@pytest.fixture
def station(tmp_path):
    with running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench") as url:
        yield url


@pytest.fixture
def serve(tmp_path):
    """Serve a daemon for these stations, without workers."""

    def one(*urls):
        folder = tmp_path / "data"
        return serving(Settings(data_dir=folder, station_url=",".join(urls), worker_count=0, port=0))

    return one


def state_of(station: str) -> str:
    client = StationClient(station)
    try:
        return str(client.status().state)
    finally:
        client.close()


def estop(url: str, *arguments: str):
    return CliRunner().invoke(app, ["estop", "--url", url, *arguments])


def test_the_command_stops_the_robot_and_says_so(serve, station):
    with serve(station) as served:
        said = estop(served.url, "--reason", "smoke")
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith(f"{station} stands since ")
    assert "smoke" in said.stdout
    assert state_of(station) == "ESTOPPED"


def test_a_second_stop_keeps_the_reason_of_the_first(serve, station):
    with serve(station) as served:
        estop(served.url, "--reason", "smoke")
        again = estop(served.url, "--reason", "fire", "--json")
    (stopped,) = json.loads(again.stdout)["items"]
    assert "smoke" in stopped["reason"]
    assert "fire" not in stopped["reason"]


def test_a_robot_that_was_not_reached_is_a_failure_that_names_it_and_the_others_stand(serve, station):
    with serve(NOBODY_THERE, station) as served, pytest.raises(DaemonRefused) as refused:
        DaemonClient(served.url).estop("smoke")
    assert (refused.value.status, refused.value.problem_code) == (424, "stations_not_stopped")
    assert NOBODY_THERE in str(refused.value)
    assert state_of(station) == "ESTOPPED"


def test_it_takes_a_token_that_may_operate_and_the_stop_is_written_down_under_its_name(
    serve, station, tmp_path, now
):
    with serve(station) as served:
        database = served.services.database
        with database.write() as session:
            tokens = {
                scope: access_tokens.create(session, scope, scopes=[scope], expires_at=None, now=now)[1]
                for scope in ("read", "operate")
            }
        for scope, token in tokens.items():
            (tmp_path / scope).write_text(token)
        refused = estop(served.url, "--token-file", str(tmp_path / "read"))
        assert refused.exit_code != 0
        assert state_of(station) != "ESTOPPED"
        assert estop(served.url, "--token-file", str(tmp_path / "operate")).exit_code == 0
        with database.read() as session:
            written = [(event.actor, event.facts) for event in audit.read(session) if event.action == "estop"]
    assert written == [("operate", {station: "stopped"})]
    assert state_of(station) == "ESTOPPED"
