"""What cameras show: one question for many who look, and no picture that claims to be newer than it is."""

import io
import socket
import time
from contextlib import contextmanager

import pytest
import requests
from PIL import Image

from daemon import station_cameras
from daemon.settings import Settings
from daemon.station_cameras import (
    FRESH_S,
    KEPT,
    LEFT_ALONE_S,
    LIVE_S,
    NO_CAMERA,
    UNSUPPORTED_S,
    CameraView,
    StationCameras,
    age_in_words,
)
from robot_bridge import reader
from robot_bridge.client import StationClient
from robot_bridge.station.serve import running_station
from robot_bridge.transport import Transport
from tests.robot_bridge.builders import a_request, forward
from tests.robot_bridge.toy_driver import SIDE, ToyDriver


@pytest.fixture(autouse=True)
def patient(request, monkeypatch):
    """A loaded machine may take its time, where no test is about that."""
    if "hangs" not in request.node.name:
        monkeypatch.setattr(station_cameras, "PATIENCE_S", 20.0)
        monkeypatch.setattr(station_cameras, "ANSWER_S", 20.0)


class Clock:
    seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watching(clock):
    made = []

    def one(**settings):
        made.append(StationCameras(Settings(**settings), clock=clock))
        return made[-1]

    yield one
    for cameras in made:
        cameras.close()


@contextmanager
def a_robot_at_work(folder):
    """A station in an episode; gives its address, and a function that takes the next step."""
    with running_station(ToyDriver(), spool=folder, station_id="bench") as url:
        client = StationClient(url)
        client.acquire_lease("somebody")
        client.create_episode(a_request(episode_id="e1"))
        taken = iter(range(100))
        yield url, lambda: client.step("e1", next(taken), forward(1, 0.02))
        client.release()
        client.close()


@pytest.fixture
def calls(monkeypatch):
    """The calls that stations get."""
    made, call = [], Transport.call

    def counted(self, method, path, **how):
        made.append(f"{method} {path}")
        return call(self, method, path, **how)

    monkeypatch.setattr(Transport, "call", counted)
    return made


def test_a_robot_at_work_is_shown_live_with_its_picture(watching, tmp_path):
    with a_robot_at_work(tmp_path) as (url, _):
        cameras = watching(station_url=url)
        (view,) = cameras.look()
        assert (view.place, view.address, view.state, view.failure) == (0, url, "live", None)
        assert view.age_s < LIVE_S
        assert view.says.startswith("Live, ")
        with Image.open(io.BytesIO(cameras.picture(0, view.digest))) as picture:
            assert (picture.format, picture.size) == ("JPEG", (SIDE, SIDE))


def test_many_who_look_ask_the_station_once(watching, clock, calls, tmp_path):
    with a_robot_at_work(tmp_path) as (url, _):
        cameras, before = watching(station_url=url), len(calls)
        views = [cameras.look()[0] for _ in range(30)]
        assert calls[before:] == ["GET /v1/snapshot"]
        assert len({view.digest for view in views}) == 1
        clock.seconds += 2 * FRESH_S
        cameras.look()
        assert calls[before:] == ["GET /v1/snapshot"] * 2


def test_a_new_picture_has_another_name_and_the_one_before_stays_for_a_moment(watching, clock, tmp_path):
    with a_robot_at_work(tmp_path) as (url, step):
        cameras, seen = watching(station_url=url), []
        for _ in range(KEPT + 1):
            step()
            clock.seconds += 2 * FRESH_S
            seen.append(cameras.look()[0].digest)
        assert len(set(seen)) == KEPT + 1
        assert cameras.picture(0, seen[0]) is None
        assert all(cameras.picture(0, digest) for digest in seen[1:])


def test_a_picture_of_a_station_that_went_away_is_old_and_says_how_old(watching, clock, tmp_path):
    with a_robot_at_work(tmp_path) as (url, _):
        cameras = watching(station_url=url)
        digest = cameras.look()[0].digest
    clock.seconds += LIVE_S + 10.0
    (view,) = cameras.look()
    assert (view.state, view.digest) == ("old", digest)
    assert view.age_s >= LIVE_S + 10.0
    assert view.says.startswith("Not live: this picture is 12 s old.")
    assert "did not answer" in view.says
    assert cameras.picture(0, digest) is not None


def test_a_picture_that_the_station_itself_calls_old_is_not_live(watching, monkeypatch, tmp_path):
    read = reader.read_snapshot

    def aged(answer, *, url):
        answer.headers["Picture-Age-Ms"] = "60000"
        return read(answer, url=url)

    monkeypatch.setattr(reader, "read_snapshot", aged)
    with a_robot_at_work(tmp_path) as (url, _):
        (view,) = watching(station_url=url).look()
    assert (view.state, view.failure) == ("old", None)
    assert view.says == "Not live: this picture is 60 s old."


def test_a_station_without_the_call_shows_no_camera_and_is_asked_seldom(
    watching, clock, calls, monkeypatch, tmp_path
):
    monkeypatch.setattr(reader, "SNAPSHOT_PATH", old := "/v1/not-yet")
    with running_station(ToyDriver(), spool=tmp_path, station_id="bench") as url:
        cameras = watching(station_url=url)
        (view,) = cameras.look()
        assert (view.state, view.says, view.digest) == ("none", NO_CAMERA, None)
        clock.seconds += UNSUPPORTED_S - 1.0
        cameras.look()
        assert calls == [f"GET {old}"]
        monkeypatch.setattr(reader, "SNAPSHOT_PATH", "/v1/snapshot")  # it was updated
        clock.seconds += 1.0
        assert cameras.look()[0].state == "dark"


def test_a_camera_that_has_shown_nothing_yet_says_so(watching, tmp_path):
    with running_station(ToyDriver(), spool=tmp_path, station_id="bench") as url:
        (view,) = watching(station_url=url).look()
    assert (view.state, view.age_s, view.digest) == ("dark", None, None)
    assert view.says.startswith("No picture yet. this station's camera has shown nothing")


def test_a_station_that_is_away_is_left_alone_for_a_while(watching, clock, calls):
    cameras = watching(station_url="http://127.0.0.1:9")
    assert cameras.look()[0].state == "dark"
    clock.seconds += LEFT_ALONE_S - 0.1
    cameras.look()
    assert len(calls) == 1
    clock.seconds += 0.1
    cameras.look()
    assert len(calls) == 2


def test_a_station_that_hangs_is_waited_for_once_and_not_by_everybody(watching, clock):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        cameras = watching(station_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        (view,) = cameras.look()
        assert (view.state, view.failure) == ("dark", "the station has not answered yet")
        clock.seconds += 0.6
        for _ in range(50):
            cameras.look()
        assert time.monotonic() - began < 3.0


def test_every_station_has_its_place_and_autoeval_has_none(watching):
    urls = "http://127.0.0.1:9,http://127.0.0.1:11"
    views = watching(station_url=urls).look()
    assert [(view.place, view.address) for view in views] == list(enumerate(urls.split(",")))
    assert watching(collect_via="autoeval", autoeval_url="http://127.0.0.1:9").look() == []


@pytest.mark.parametrize("place", [-1, 1, 99])
def test_a_place_without_a_station_has_no_picture(watching, place):
    assert watching(station_url="http://127.0.0.1:9").picture(place, "0" * 32) is None


@pytest.mark.parametrize(
    ("age_s", "words"), [(0.04, "0.0 s"), (9.4, "9.4 s"), (61.0, "61 s"), (180.0, "3 min"), (9000.0, "2 h")]
)
def test_ages_are_said_in_words(age_s, words):
    assert age_in_words(age_s) == words


def test_no_state_but_live_is_said_to_be_live():
    for state in ("old", "dark", "none"):
        age_s = 9.0 if state == "old" else None
        says = CameraView(place=0, address="a", state=state, age_s=age_s, failure="x.").says
        assert not says.startswith("Live")
        assert not says.endswith("..")


def test_nothing_is_asked_before_somebody_looks(watching, calls):
    cameras = watching(station_url="http://127.0.0.1:9")
    assert calls == []
    cameras.ask()
    assert [view.state for view in cameras.look()] == ["dark"]
    assert len(calls) == 1


def test_a_stranger_answers_with_a_page_and_shows_nothing(watching, monkeypatch):
    def page(*_, **__):
        answer = requests.Response()
        answer.status_code, answer._content = 200, b"<html>"
        answer.headers.update({"Content-Type": "text/html", "Content-Length": "6"})
        return answer

    monkeypatch.setattr(requests.Session, "request", page)
    (view,) = watching(station_url="http://127.0.0.1:9").look()
    assert view.state == "dark"
    assert "text/html" in view.says
