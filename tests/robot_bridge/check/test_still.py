"""The items that move nothing, each against a robot that is wrong in just that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot_bridge.check import still
from robot_bridge.check.still import NotHere
from robot_bridge.check.trial import CheckFailed, Trial
from robot_bridge.drivers.driver import CameraDescription, TaskDescription
from tests.robot_bridge.builders import Clock
from tests.robot_bridge.check.drivers import Changed, Described
from tests.robot_bridge.toy_driver import ToyDriver

CAMERA = CameraDescription(name="primary", width=32, height=32, fps=5.0, renderer="numpy")
TASK = TaskDescription(
    task_id="stack", instruction="stack the cups", box_low=(0.1, -0.2, 0.05), box_high=(0.4, 0.2, 0.25)
)


def trial(driver: ToyDriver) -> Trial:
    return Trial(driver, task=ToyDriver().description.tasks[0], seed=0, clock=Clock())


def test_a_good_description_and_its_numbers_are_told():
    found, numbers = still.description(trial(ToyDriver()))
    assert found == "toy"
    assert numbers == {"control_hz": 5.0, "tasks": 2}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"robot_model": ""}, "no robot model"),
        ({"software_digest": "abc"}, "no sha256"),
        ({"control_hz": 0.2}, r"0\.2 Hz"),
        ({"control_hz": float("nan")}, "nan Hz"),
        ({"camera": replace(CAMERA, height=2)}, "32 x 2"),
    ],
)
def test_a_description_of_no_robot_is_told(said, words):
    driver = ToyDriver()
    made = trial(driver)
    made.driver = Described(**said)
    made.description = made.driver.description
    with pytest.raises(CheckFailed, match=words):
        still.description(made)


def test_a_driver_that_changes_its_mind_is_told():
    made = trial(ToyDriver())
    made.driver = Described(robot_model="another")
    with pytest.raises(CheckFailed, match="when asked again"):
        still.description(made)


@pytest.mark.parametrize(
    "said",
    [
        {"step_xyz_max": 0.2},
        {"step_rot_max": 0.0},
        {"ee_speed_max": -1.0},
        {"joint_speed_max": float("inf")},
        {"tracking_max_m": float("nan")},
        {"effort_max_mA": 2000.0, "camera": replace(CAMERA, renderer="camera")},
    ],
    ids=lambda said: next(iter(said)),
)
def test_a_limit_that_does_not_protect_is_told(said):
    made = trial(ToyDriver())
    made.description = Described(**said).description
    with pytest.raises(CheckFailed, match=next(iter(said))):
        still.limits(made)


def test_simulated_motors_may_have_another_limit_of_current():
    made = trial(ToyDriver())
    made.description = Described(effort_max_mA=5000.0).description
    assert still.limits(made)[1]["effort_max_mA"] == 5000.0


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ((TASK, TASK), "twice"),
        ((replace(TASK, instruction=""),), "no sentence"),
        ((replace(TASK, box_high=(0.11, 0.2, 0.25)),), "without room"),
        ((replace(TASK, box_high=(4.0, 0.2, 0.25)),), "beyond"),
        ((replace(TASK, box_low=(float("nan"), -0.2, 0.05)),), "without room"),
    ],
)
def test_a_task_that_cannot_be_meant_is_told(tasks, words):
    made = trial(ToyDriver())
    made.description = Described(tasks=tasks).description
    with pytest.raises(CheckFailed, match=words):
        still.boxes(made)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"error": "overload"}, "elbow reports overload"),
        ({"torque": False}, "elbow has no torque"),
        ({"temperature_c": 75.0}, "elbow is at 75"),
        ({"current_mA": -1200.0}, "elbow draws 1200 mA"),
    ],
)
def test_a_motor_that_is_not_well_is_named(wrong, words):
    driver = Changed(motor=lambda motor: replace(motor, **wrong) if motor.name == "elbow" else motor)
    with pytest.raises(CheckFailed, match=words):
        still.motors(trial(driver))


def test_motors_that_tell_more_give_their_largest_numbers():
    driver = Changed(motor=lambda motor: replace(motor, temperature_c=40.0, current_mA=-300.0))
    assert still.motors(trial(driver))[1] == {"motors": 7, "largest_mA": 300.0, "hottest_c": 40.0}


def test_a_driver_that_tells_nothing_of_its_motors_is_skipped():
    class Silent(ToyDriver):
        def motors(self):
            return ()

    with pytest.raises(NotHere):
        still.motors(trial(Silent()))


def test_a_driver_that_cannot_look_is_skipped_and_one_that_can_is_looked_through():
    with pytest.raises(NotHere):
        still.first_look(trial(ToyDriver()))

    class Seeing(ToyDriver):
        def look(self):
            return self._sample()

    driver = Seeing()
    _, numbers = still.first_look(trial(driver))
    assert numbers["x"] == pytest.approx(0.2)
    assert driver.moves == 0


@pytest.mark.parametrize(
    ("level", "words"), [(0, "black"), (8, "black"), (9, "one colour"), (200, "one colour")]
)
def test_a_picture_that_shows_nothing_is_told(level, words):
    sample = ToyDriver().reset("open_drawer", seed=0)
    flat = replace(sample, image=np.full_like(sample.image, level))
    with pytest.raises(CheckFailed, match=words):
        still.require_picture(flat)
    assert still.require_picture(sample)["brightest"] > 60
