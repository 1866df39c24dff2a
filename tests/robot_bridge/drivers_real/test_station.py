"""A whole station over each real driver: an episode, a line that goes silent in it, a camera that dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robot_bridge.client import StationClient
from robot_bridge.errors import CameraStale, DriverDisconnected, UnknownOutcome
from robot_bridge.frames import decode_jpeg
from robot_bridge.protocol import EpisodeRequest
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.serve import running_station
from tests.robot_bridge.builders import a_request
from tests.robot_bridge.drivers_real.labs import Lab
from tests.waiting import until

CALM = StationPolicy(hold_after_ms=30_000, abort_after_ms=60_000)  # the emulators' seconds are not real ones


@pytest.fixture
def station(lab: Lab, tmp_path: Path) -> Iterator[StationClient]:
    with running_station(lab.driver, spool=tmp_path, station_id="lab", policy=CALM) as url:
        yield StationClient(url)


def request() -> EpisodeRequest:
    return a_request(task_id="put_eggplant_blue_sink", max_steps=20)


def actions(count: int, dx: float = 0.005) -> list[list[float]]:
    return [[dx, 0, 0, 0, 0, 0, 1.0]] * count


def test_a_client_is_told_that_nobody_resets_the_scene_and_a_person_judges(station):
    assert {(task.reset, task.judge) for task in station.station().tasks} == {("none", "human")}


def test_an_episode_runs_is_recorded_and_has_no_verdict_of_its_own(station, lab):
    with station.leased("test"):
        ready = station.create_episode(request())
        result = station.step(ready.episode_id, ready.next_step, actions(6))
        manifest = station.finish(ready.episode_id)
    assert manifest.T == 6
    assert manifest.outcome == "completed"
    assert [label.success for label in manifest.labels] in ([], [None])
    places = np.array([observation.proprio[0] for observation in result.observations])
    assert places[-1] - places[0] == pytest.approx(0.025, abs=0.006)
    assert not result.flags.any()


def test_a_reply_that_is_lost_aborts_the_episode_and_moves_the_arm_once(station, lab):
    with station.leased("test"):
        ready = station.create_episode(request())
        station.step(ready.episode_id, 0, actions(2))
        commands = len(lab.arm.commands)
        lab.line.mute = 1
        with pytest.raises((DriverDisconnected, UnknownOutcome)):
            station.step(ready.episode_id, 2, actions(1))
        went = [point.copy() for point in lab.arm.commands[commands:]]
        with pytest.raises(Exception, match=ready.episode_id):
            station.step(ready.episode_id, 2, actions(1))
    assert len(went) >= 1
    forward = [b for a, b in zip([lab.arm.commands[commands - 1], *went], went, strict=False) if far(a, b)]
    assert len(forward) == 1  # what came after it only held the arm


def far(before: np.ndarray, after: np.ndarray) -> bool:
    return float(np.abs(after - before).max()) > 0.01


def test_a_camera_that_dies_in_an_episode_ends_it(station, lab):
    with station.leased("test"):
        ready = station.create_episode(request())
        station.step(ready.episode_id, 0, actions(2))
        lab.camera.dead = True
        with pytest.raises(CameraStale):
            for t in range(2, 8):
                station.step(ready.episode_id, t, actions(1))


def test_people_see_the_robot_at_work_and_between_episodes_without_a_fault(station):
    with station.leased("test"):
        ready = station.create_episode(request())
        first = station.snapshot()
        seen = station.step(ready.episode_id, ready.next_step, actions(2)).last
        second = station.snapshot()
        station.finish(ready.episode_id)
        side = seen.image.shape[0]
        shown = decode_jpeg(second.jpeg, width=side, height=side).astype(float)
        assert second.number > first.number
        assert np.abs(shown - seen.image).mean() < 2.0
        until(lambda: station.snapshot().number > second.number, "a picture between episodes")
        assert [motor for motor in station.status().motors if motor.error] == []
        assert station.status().state == "IDLE"
