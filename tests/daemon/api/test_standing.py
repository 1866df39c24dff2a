"""How the robots stand, over REST."""

import pytest

from robot_bridge.client import StationClient
from robot_bridge.station.serve import running_station
from tests.robot_bridge.toy_driver import ToyDriver


@pytest.fixture
def station(tmp_path):
    with running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench") as url:
        yield url


@pytest.fixture
def settings(settings, station, slow_machine):
    return settings.model_copy(update={"station_url": f"{station},http://127.0.0.1:9"})


def test_every_station_is_told_of_with_what_there_is_to_do(client, station):
    here, away = client.get("/v1/standing").json()["items"]
    assert (here["address"], here["says"], here["tone"], here["todo"]) == (station, "is idle", "good", None)
    assert (away["says"], away["tone"]) == ("does not answer", "bad")
    assert "did not answer" in away["wants"]
    assert "red button" in away["todo"]


def test_a_robot_in_somebodys_hands_says_whose(client, station):
    robot = StationClient(station)
    robot.acquire_lease("somebody")
    assert client.get("/v1/standing").json()["items"][0]["facts"] == {"in the hands of": "somebody"}
    robot.close()
