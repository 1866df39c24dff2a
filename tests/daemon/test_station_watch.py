"""How stations stand: asked seldom, waited for briefly, left alone when they are away."""

import socket
import time

import pytest

from daemon.settings import Settings
from daemon.station_watch import FRESH_S, LEFT_ALONE_S, StationWatch
from robot_bridge.station.serve import running_station
from tests.robot_bridge.toy_driver import ToyDriver


@pytest.fixture
def seconds():
    return [1000.0]


@pytest.fixture
def watching(seconds):
    watches = []

    def one(**settings):
        watches.append(StationWatch(Settings(**settings), clock=lambda: seconds[0]))
        return watches[-1]

    yield one
    for watch in watches:
        watch.close()


def test_a_station_is_asked_again_once_its_answer_is_old(watching, seconds, tmp_path):
    with running_station(ToyDriver(), spool=tmp_path, station_id="bench") as url:
        watch = watching(station_url=url)
        (first,) = watch.look()
        assert (first.address, first.failure) == (url, None)
        assert first.status.state == "IDLE"
        assert watch.look()[0] is first
        seconds[0] += FRESH_S
        assert watch.look()[0] is not first


def test_a_station_that_is_away_is_left_alone_for_a_while(watching, seconds):
    watch = watching(station_url="http://127.0.0.1:9")
    (first,) = watch.look()
    assert "did not answer" in first.failure
    seconds[0] += FRESH_S
    assert watch.look()[0] is first
    seconds[0] += LEFT_ALONE_S
    assert watch.look()[0] is not first


def test_nobody_waits_for_a_station_that_hangs(watching):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        watch = watching(station_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        (found,) = watch.look()
        assert found.failure == "has not answered yet"
        assert time.monotonic() - began < 2.0


def test_every_station_has_its_place_and_autoeval_has_none(watching):
    urls = "http://127.0.0.1:9,http://127.0.0.1:11"
    assert [found.address for found in watching(station_url=urls).look()] == urls.split(",")
    assert watching(collect_via="autoeval", autoeval_url="http://127.0.0.1:9").look() == []
