"""Cameras over REST: told with their age, pictures by name, for those who may read."""

import pytest

from robot_bridge.client import StationClient
from robot_bridge.station.serve import running_station
from tests.robot_bridge.builders import a_request
from tests.robot_bridge.toy_driver import ToyDriver


@pytest.fixture
def station(tmp_path):
    """A station whose robot waits for the first step of an episode."""
    with running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench") as url:
        client = StationClient(url)
        client.acquire_lease("somebody")
        client.create_episode(a_request(episode_id="e1"))
        yield url
        client.close()


@pytest.fixture
def settings(settings, station, slow_machine):
    return settings.model_copy(update={"station_url": f"{station},http://127.0.0.1:9"})


def test_every_station_is_told_of_with_what_its_camera_shows(client, station):
    shown, away = client.get("/v1/cameras").json()["items"]
    assert (shown["place"], shown["address"], shown["state"]) == (0, station, "live")
    assert 0.0 <= shown["age_s"] < 60.0
    assert (away["state"], away["picture"], away["age_s"]) == ("dark", None, None)
    assert "did not answer" in away["says"]


def test_a_picture_that_was_told_of_can_be_fetched_and_is_kept_by_nobody(client):
    picture = client.get("/v1/cameras").json()["items"][0]["picture"]
    answer = client.get(picture)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.content.startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/v1/cameras/0/pictures/{'0' * 32}.jpg", 404),
        (f"/v1/cameras/1/pictures/{'0' * 32}.jpg", 404),
        (f"/v1/cameras/7/pictures/{'0' * 32}.jpg", 404),
        (f"/v1/cameras/-1/pictures/{'0' * 32}.jpg", 422),
        ("/v1/cameras/0/pictures/..%2fsecret.jpg", 404),
        ("/v1/cameras/0/pictures/xyz.jpg", 422),
    ],
)
def test_a_picture_that_there_is_not_is_refused(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
