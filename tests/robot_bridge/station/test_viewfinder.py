"""The picture for people: its number rises, its age tells the truth, and looking costs little."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from robot_bridge.drivers.driver import CameraDescription
from robot_bridge.errors import DriverDisconnected
from robot_bridge.frames import decode_jpeg
from robot_bridge.snapshot import NoPicture
from robot_bridge.station import viewfinder
from robot_bridge.station.viewfinder import AFTER_TROUBLE_S, LOOK_EVERY_S, WATCHED_S, Viewfinder
from tests.robot_bridge.builders import Clock
from tests.robot_bridge.station.conftest import Scripted
from tests.robot_bridge.station.wire import a_wire, problem
from tests.robot_bridge.toy_driver import SIDE, ToyDriver

CAMERA = CameraDescription(name="primary", width=SIDE, height=SIDE, fps=5.0, renderer="numpy")
SAMPLE = ToyDriver().reset("open_drawer", seed=1)
OTHER = ToyDriver().reset("open_drawer", seed=2)


class Seeing(Scripted):
    """A scripted robot that can look; `dark` fails its looks."""

    def __init__(self) -> None:
        super().__init__()
        self.dark = False

    def look(self):
        self.calls.append("look")
        if self.dark:
            raise DriverDisconnected(interface="toy", call="look", reason="dark")
        return self._sample()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def view(clock):
    return Viewfinder(CAMERA, clock=clock, now=clock.now)


@pytest.fixture
def noisy(clock):
    return Viewfinder(replace(CAMERA, noisy=True), clock=clock, now=clock.now)


def test_without_a_picture_it_says_why_there_is_none(view):
    with pytest.raises(NoPicture, match="nobody has looked through it yet"):
        view.snapshot()
    view.looked(trouble="the camera is unplugged")
    with pytest.raises(NoPicture, match="the camera is unplugged"):
        view.snapshot()


def test_the_newest_picture_is_given_with_its_age_and_time_of_day(view, clock):
    view.show(SAMPLE)
    clock.advance(1.5)
    found = view.snapshot()
    assert (found.number, found.age_s) == (1, 1.5)
    assert found.captured_at == clock.now() - timedelta(seconds=1.5)
    shown = decode_jpeg(found.jpeg, width=SIDE, height=SIDE).astype(float)
    assert np.abs(shown - SAMPLE.image).mean() < 3.0


def test_a_picture_that_was_old_when_it_was_read_is_older_still(view, clock):
    view.show(replace(SAMPLE, age_s=0.7))
    clock.advance(1.0)
    assert view.snapshot().age_s == pytest.approx(1.7)


@pytest.mark.parametrize("age_s", [float("nan"), float("inf")])
def test_a_picture_of_an_age_that_nobody_knows_is_not_shown(view, age_s):
    view.show(replace(SAMPLE, age_s=age_s))
    with pytest.raises(NoPicture):
        view.snapshot()


def test_every_new_picture_has_a_higher_number(view):
    numbers = []
    for seq, sample in ((5, SAMPLE), (6, OTHER), (3, SAMPLE)):  # a camera that began to count again
        view.show(replace(sample, seq=seq))
        numbers.append(view.snapshot().number)
    assert numbers == [1, 2, 3]


def test_a_picture_that_the_camera_gives_again_keeps_number_and_age(view, clock):
    view.show(replace(SAMPLE, seq=4))
    clock.advance(3.0)
    view.show(replace(SAMPLE, seq=4, age_s=0.0))
    assert (view.snapshot().number, view.snapshot().age_s) == (1, 3.0)


def test_a_sensor_that_gives_equal_pictures_is_frozen_and_a_drawn_scene_may_stand_still(view, noisy, clock):
    for each in (view, noisy):
        each.show(replace(SAMPLE, seq=1))
    clock.advance(2.0)
    for each in (view, noisy):
        each.show(replace(SAMPLE, seq=2))
    assert (view.snapshot().number, view.snapshot().age_s) == (2, 0.0)
    assert (noisy.snapshot().number, noisy.snapshot().age_s) == (1, 2.0)


def test_a_picture_is_encoded_once_however_many_ask(view, monkeypatch):
    encoded = []
    encode = viewfinder.encode_jpeg
    monkeypatch.setattr(viewfinder, "encode_jpeg", lambda image: encoded.append(1) or encode(image))
    view.show(SAMPLE)
    assert len({view.snapshot().jpeg for _ in range(5)}) == len(encoded) == 1
    view.show(replace(OTHER, seq=99))
    view.snapshot()
    assert len(encoded) == 2


def test_what_is_no_picture_is_told_and_not_sent(view):
    view.show(replace(SAMPLE, image=np.zeros((4, 4), dtype=np.uint8)))
    with pytest.raises(NoPicture, match="uint8"):
        view.snapshot()


def test_a_look_is_wanted_only_while_somebody_asks_and_at_most_twice_a_second(view, clock):
    assert not view.wants_look()
    view.show(SAMPLE)
    view.snapshot()
    assert view.wants_look()
    assert not view.wants_look()
    clock.advance(LOOK_EVERY_S)
    assert view.wants_look()
    clock.advance(WATCHED_S + 0.1)
    assert not view.wants_look()


def test_trouble_is_news_once_and_makes_looks_rare(view, clock):
    view.show(SAMPLE)
    view.snapshot()
    assert view.wants_look()
    assert view.looked(trouble="unplugged")
    assert not view.looked(trouble="unplugged")
    clock.advance(AFTER_TROUBLE_S - 0.1)
    view.snapshot()
    assert not view.wants_look()
    clock.advance(0.1)
    assert view.wants_look()
    view.looked()
    clock.advance(LOOK_EVERY_S)
    assert view.wants_look()


# ---- in the station --------------------------------------------------------------------------------------


def picture(bench):
    return bench.session.keeper.view.snapshot()


def asked(bench):
    with pytest.raises(NoPicture):
        picture(bench)


@pytest.fixture
def seeing(bench):
    bench.session.close()
    bench.driver = Seeing()
    bench.start()
    return bench


def test_a_reset_and_every_step_are_shown(bench):
    bench.lease()
    bench.create()
    assert picture(bench).number == 1
    bench.step(0)
    assert picture(bench).number == 2


def test_an_idle_station_looks_while_somebody_asks(seeing):
    seeing.tick(1.0)
    assert seeing.driver.did("look") == 0
    asked(seeing)
    seeing.tick(0.1)
    assert (seeing.driver.did("look"), picture(seeing).number) == (1, 1)
    seeing.tick(LOOK_EVERY_S)
    assert picture(seeing).number == 2
    for _ in range(100):
        seeing.tick(0.1)
    assert seeing.driver.did("look") <= 2 + WATCHED_S / LOOK_EVERY_S


def test_no_look_falls_into_an_episode(seeing):
    seeing.lease()
    seeing.create()
    picture(seeing)
    seeing.tick(LOOK_EVERY_S)
    assert seeing.driver.did("look") == 0


def test_a_stopped_robot_can_still_be_seen(seeing):
    seeing.session.stop("a test")
    asked(seeing)
    seeing.tick(0.1)
    assert picture(seeing).number == 1
    assert seeing.state == "ESTOPPED"


def test_a_camera_that_fails_between_episodes_is_no_fault_of_the_arm(seeing):
    seeing.driver.dark = True
    asked(seeing)
    seeing.tick(0.1)
    with pytest.raises(NoPicture, match="dark"):
        picture(seeing)
    assert seeing.session.keeper.fault is None
    assert seeing.events("motor_fault") == seeing.events("camera_fault") == []


def test_a_driver_that_cannot_look_shows_its_last_picture_for_as_long_as_it_stands(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    bench.session.finish("e1", "completed", bench.fence)
    picture(bench)
    bench.tick(LOOK_EVERY_S)
    assert picture(bench).age_s >= LOOK_EVERY_S


def test_over_http_it_is_a_picture_with_its_number_age_and_time(tmp_path):
    with a_wire(tmp_path) as wire:
        assert problem(wire.http.get("/v1/snapshot")).code == "no_picture"
        wire.lease()
        wire.create()
        wire.clock.advance(0.25)
        answer = wire.http.get("/v1/snapshot")
        assert answer.headers["content-type"] == "image/jpeg"
        assert (answer.headers["Picture-Number"], answer.headers["Picture-Age-Ms"]) == ("1", "250")
        assert answer.headers["cache-control"] == "no-store"
        assert decode_jpeg(answer.content, width=SIDE, height=SIDE).shape == (SIDE, SIDE, 3)
