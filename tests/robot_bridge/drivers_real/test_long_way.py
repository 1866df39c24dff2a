"""Long ways through either package: small parts only, and an emergency stop ends them within one part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.client import StationClient
from robot_bridge.drivers import kinematics
from robot_bridge.drivers.driver import Interruptible, MotionStopped
from robot_bridge.drivers.long_way import TRAVEL_JOINT_STEP, require_known, waypoints
from robot_bridge.drivers.real_arm import ArmNotReady
from robot_bridge.errors import EStopped, NeedsHuman
from robot_bridge.station.serve import running_station
from tests.robot_bridge.builders import a_request
from tests.robot_bridge.drivers_real.labs import Lab
from tests.robot_bridge.drivers_real.test_station import CALM
from tests.waiting import until

TASK = "put_eggplant_blue_sink"
PART = TRAVEL_JOINT_STEP + 0.02  # radians of any joint: a waypoint, and what the arm's weight takes from it
FAR = np.array([0.9, -0.5, 0.3, 0.0, 1.5, 0.0])  # joints a long way from every home

joints = st.lists(st.floats(-1.5, 1.5), min_size=6, max_size=6).map(np.array)


@given(joints, joints)
def test_waypoints_are_even_and_small_and_end_at_the_goal(start, goal):
    way = waypoints(start, goal)
    assert np.abs(np.diff([start, *way], axis=0)).max() <= TRAVEL_JOINT_STEP + 1e-12
    np.testing.assert_array_equal(way[-1], goal)
    steps = np.linalg.norm(np.diff([start, *way], axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0], atol=1e-9)


def test_a_way_of_no_length_is_its_goal():
    assert len(waypoints(FAR, FAR)) == 1


def test_from_joints_that_are_not_the_arms_no_way_begins():
    require_known(FAR, kinematics.forward(FAR))
    with pytest.raises(NeedsHuman, match="by hand"):
        require_known(FAR, kinematics.forward(np.zeros(6)))


def put_far_away(lab: Lab) -> None:
    lab.driver.reset(TASK, seed=0)
    lab.driver.wake()  # nobody is sure any more where it is
    lab.arm.go(FAR, 0.0)
    lab.time.sleep(1.0)  # the packages keep a picture for a while


class Button:
    """An emergency stop that is pressed when the driver looks at it for the n-th time."""

    def __init__(self, lab: Lab, presses_at: int) -> None:
        self._lab, self._left = lab, presses_at
        self.joints = np.zeros(6)
        self.commands = 0

    def __call__(self) -> bool:
        self._left -= 1
        if self._left == 0:
            self.joints, self.commands = self._lab.arm.joints, len(self._lab.arm.commands)
        return self._left <= 0


@pytest.mark.parametrize("presses_at", [1, 2, 4])
@pytest.mark.parametrize("way", ["home", "park"])
def test_a_stop_on_a_long_way_ends_it_at_once_and_the_arm_stays_there(lab, presses_at, way):
    put_far_away(lab)
    button = Button(lab, presses_at)
    assert isinstance(lab.driver, Interruptible)
    lab.driver.heed(button)
    with pytest.raises(MotionStopped, match="on its way"):
        lab.driver.reset(TASK, seed=0) if way == "home" else lab.driver.park()
    assert len(lab.arm.commands) == button.commands  # nothing was sent after the press
    lab.time.sleep(10.0)
    assert np.abs(lab.arm.joints - button.joints).max() <= PART
    with pytest.raises(ArmNotReady):
        lab.driver.step(lab.driver.target, 1.0)
    lab.driver.hold()
    assert np.abs(lab.arm.joints - button.joints).max() <= 1.5 * PART


def test_no_part_of_a_long_way_is_further_than_a_stop_may_leave_over(lab):
    """What is sent at one moment is all that can still happen after it: the set point is never far ahead."""
    put_far_away(lab)
    begun = len(lab.arm.commands)
    before = lab.arm.joints
    lab.driver.reset(TASK, seed=0)
    lab.driver.park()
    sent = np.array([before, *lab.arm.commands[begun:]])
    assert len(sent) > 10
    assert np.abs(np.diff(sent, axis=0)).max() <= 1.5 * PART


def test_an_arm_that_was_stopped_goes_home_once_the_stop_is_cleared(lab):
    put_far_away(lab)
    lab.driver.heed(Button(lab, 3))
    with pytest.raises(MotionStopped):
        lab.driver.reset(TASK, seed=0)
    lab.driver.heed(lambda: False)
    lab.driver.reset(TASK, seed=0)
    assert lab.driver.step(lab.driver.target, 1.0).ik_ok


def test_before_the_package_lays_the_arm_down_the_stop_is_looked_at(gym):
    gym.driver.reset(TASK, seed=0)
    gym.driver.park()
    gym.driver.heed(Button(gym, 3))  # two looks on the way of no length from park pose to park pose
    calls = gym.line.calls.count("reset")
    with pytest.raises(MotionStopped, match="cradle"):
        gym.driver.sleep()
    assert gym.line.calls.count("reset") == calls


@pytest.mark.parametrize("call", ["episode", "reset"])
def test_an_emergency_stop_over_the_wire_ends_the_way_home_and_is_what_the_caller_is_told(
    lab, tmp_path: Path, call: str
):
    """The stop comes while the arm is on its way: from the sleep between two of its waypoints."""
    put_far_away(lab)
    slept, pressed = lab.time.sleep, []
    with running_station(lab.driver, spool=tmp_path, station_id="lab", policy=CALM) as url:
        client, guard = StationClient(url), StationClient(url)

        def sleep(seconds: float) -> None:
            slept(seconds)
            moving = [name for name in lab.line.calls[begun:] if name in {"move", "step_action"}]
            if len(moving) == 4 and not pressed:
                guard.estop("a hand in the cell")
                pressed.append(len(lab.arm.commands))

        begun = len(lab.line.calls)
        lab.driver._way._sleep = sleep
        with client.leased("test"), pytest.raises(EStopped, match="a hand in the cell"):
            if call == "episode":
                client.create_episode(a_request(task_id=TASK))
            else:
                client.reset(TASK)
        assert pressed
        until(lambda: guard.status().state == "ESTOPPED")
        assert len(lab.arm.commands) <= pressed[0] + 2  # no way goes on; holding sends where the arm is
        status = guard.status()
        assert status.episode is None
        assert {motor.error for motor in status.motors} <= {""}  # a stop is no fault
        client.close()
        guard.close()
