"""The emergency stop over REST: every station, no lease, and no success where one was not reached."""

import pytest
from fastapi.testclient import TestClient

from daemon.app import create_app
from robot_bridge.client import StationClient
from robot_bridge.station.serve import running_station
from storage import audit
from tests.robot_bridge.toy_driver import ToyDriver

NOBODY_THERE = "http://127.0.0.1:9"


@pytest.fixture
def station(tmp_path):
    with running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench") as url:
        yield url


@pytest.fixture
def serving_stations(settings):
    """A client of a daemon that has these stations."""

    def one(*urls):
        return TestClient(create_app(settings.model_copy(update={"station_url": ",".join(urls)})))

    return one


def test_a_stop_reaches_a_station_that_somebody_else_has_leased(serving_stations, station):
    holder = StationClient(station)
    holder.acquire_lease("collector")
    with serving_stations(station) as client:
        answer = client.post("/v1/estop", json={"reason": "smoke"})
    assert answer.status_code == 200
    (stopped,) = answer.json()["items"]
    assert stopped["address"] == station
    assert "smoke" in stopped["reason"]
    assert holder.status().state == "ESTOPPED"
    holder.close()


def test_nobody_has_to_say_why(serving_stations, station):
    with serving_stations(station) as client:
        assert client.post("/v1/estop").status_code == 200
        assert client.post("/v1/estop", json={"reason": "r" * 400}).status_code == 200
        with client.app.state.services.database.read() as session:
            found = audit.read(session)
    assert [(event.actor, event.action, event.facts) for event in found] == [
        ("rest", "estop", {station: "stopped"}),
        ("rest", "estop", {station: "stopped"}),
    ]


def test_one_station_that_does_not_answer_hides_behind_no_other(serving_stations, station):
    with serving_stations(NOBODY_THERE, station) as client:
        answer = client.post("/v1/estop")
        with client.app.state.services.database.read() as session:
            (event,) = audit.read(session)
    assert (answer.status_code, answer.json()["code"]) == (424, "stations_not_stopped")
    assert answer.json()["retryable"] is True
    assert f"NOT STOPPED: {NOBODY_THERE}" in answer.json()["detail"]
    assert f"Stopped: {station}" in answer.json()["detail"]
    assert event.facts[station] == "stopped"
    assert "did not answer" in event.facts[NOBODY_THERE]
    watcher = StationClient(station)
    assert watcher.status().estop_reason is not None
    watcher.close()


def test_a_token_file_that_cannot_be_read_is_no_stop(settings, station, tmp_path):
    ours = settings.model_copy(
        update={"station_url": station, "station_token_file": tmp_path / "nothing-here"}
    )
    with TestClient(create_app(ours)) as client:
        answer = client.post("/v1/estop")
    assert answer.status_code == 424
    assert "nothing-here" in answer.json()["detail"]


@pytest.mark.parametrize("body", [{"reason": "r" * 401}, {"reason": 1}, {"url": "http://192.0.2.1"}])
def test_a_body_of_another_shape_is_refused(client, body):
    assert client.post("/v1/estop", json=body).status_code == 422
