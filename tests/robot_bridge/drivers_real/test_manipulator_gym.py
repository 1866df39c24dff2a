"""The link to manipulator_gym: added Euler angles, motions that never answer, registers, an endless wait."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from robot_bridge.conventions import DEFAULT_ROTATION, compose_target, rotation_angle, rotation_of_euler
from robot_bridge.drivers.lab_package import LabPackageMissing
from robot_bridge.drivers.manipulator_gym import (
    MODULE,
    SINGULAR_CONE,
    ManipulatorGymLink,
    clear_of_singularity,
    error_words,
    euler_as_they_do,
)
from robot_bridge.errors import DriverDisconnected, MotorFault
from tests.robot_bridge.drivers_real import fake_manipulator_gym
from tests.robot_bridge.drivers_real.fake_manipulator_gym import MOVE_EEF_S, euler_of
from tests.robot_bridge.drivers_real.labs import Lab

TASK = "open_drawer"


def step(lab: Lab, *action: float) -> None:
    lab.driver.step(compose_target(lab.driver.target, [*action, 1.0]), 1.0)


def test_the_emulator_shows_the_trap_that_the_link_avoids(gym):
    """A roll sent as it stands turns the gripper about another axis."""
    gym.driver.reset(TASK, seed=0)
    before = gym.arm.pose.rotation
    gym.server.step_action(np.array([0, 0, 0, 0.15, 0, 0, 1.0]))
    gym.time.sleep(1.0)
    turned = gym.arm.pose.rotation @ before.T
    wanted = rotation_of_euler([0.15, 0, 0])
    assert rotation_angle(turned) == pytest.approx(0.15, abs=0.02)
    assert rotation_angle(turned @ wanted.T) > 0.15


def test_a_step_is_one_step_action_and_long_ways_are_many_of_them(gym):
    gym.driver.reset(TASK, seed=0)
    assert gym.line.calls.count("move_eef") == 2  # to where it is, at the beginning and at the end
    parts = gym.line.calls.count("step_action")
    assert parts > 3
    step(gym, 0.01, 0, 0, 0, 0, 0)
    assert gym.line.calls.count("step_action") == parts + 1
    assert gym.line.calls.count("move_eef") == 2


def test_the_long_motion_never_answers_in_time_and_is_waited_for(gym):
    begun = gym.time()
    joints = gym.arm.joints
    gym.driver.reset(TASK, seed=0)
    assert gym.time() - begun > MOVE_EEF_S
    assert np.abs(gym.arm.commands[0] - joints).max() < 0.02  # it went nowhere by it
    np.testing.assert_allclose(gym.arm.pose.position, gym.driver.target.position, atol=0.01)


def test_no_action_reaches_far_although_the_angles_are_near_their_singularity(gym):
    gym.driver.reset(TASK, seed=0)
    for turn in (0.1, -0.1, -0.1, 0.1):
        step(gym, 0, 0, 0, turn, turn / 2, 0)
        moved = rotation_angle(gym.arm.pose.rotation @ gym.driver.target.rotation.T)
        assert moved < 0.05


@pytest.mark.parametrize("seed", range(20))
def test_a_pose_near_straight_down_leans_by_the_cone_and_keeps_its_turn(seed):
    random = np.random.default_rng(seed)
    side = 1.0 if seed % 2 else -1.0
    spin = rotation_of_euler([0, 0, random.uniform(-3, 3)])
    lean = rotation_of_euler(random.uniform(-0.012, 0.012, 3))
    rotation = lean @ spin @ rotation_of_euler([0, side * np.pi / 2, 0])
    cleared = rotation_of_euler(clear_of_singularity(euler_as_they_do(rotation), random.uniform(-3, 3)))
    down = cleared[:, 0] @ [0, 0, -side]
    assert np.arccos(np.clip(down, -1, 1)) == pytest.approx(SINGULAR_CONE, abs=1e-6)
    assert rotation_angle(cleared @ rotation.T) < 2.2 * SINGULAR_CONE


def test_a_pose_clear_of_the_singularity_is_sent_as_it_is():
    euler = euler_as_they_do(rotation_of_euler([0.2, 0.1, -0.3]) @ DEFAULT_ROTATION)
    np.testing.assert_array_equal(clear_of_singularity(euler, 1.0), euler)


@pytest.mark.parametrize("seed", range(10))
def test_the_angles_are_those_the_package_computes(seed):
    random = np.random.default_rng(seed)
    for rotation in (rotation_of_euler(random.uniform(-3, 3, 3)), DEFAULT_ROTATION):
        np.testing.assert_allclose(euler_as_they_do(rotation), euler_of(rotation), atol=1e-12)
        back = rotation_of_euler(euler_as_they_do(rotation))
        np.testing.assert_allclose(back, rotation, atol=1e-6)


def test_the_gripper_goes_where_it_works_because_the_clients_own_call_only_prints(gym):
    gym.driver.reset(TASK, seed=0)
    gym.driver.step(gym.driver.target, 0.0)
    assert gym.arm.finger == 0.015
    gym.driver.step(gym.driver.target, 0.0)
    assert gym.arm.finger == 0.015  # a step with the old opening would have opened it again
    assert gym.driver.look().proprio[6] == pytest.approx(0.2, abs=0.01)


def test_motors_tell_torque_errors_and_currents(gym):
    gym.arm.errors[1] = 0x20
    gym.arm.torque[6] = 0
    motors = gym.driver.motors()
    assert [motor.name for motor in motors][-1] == "gripper"
    assert motors[1].error == "overload (hardware error 0x20)"
    assert motors[1].current_mA == pytest.approx(-320.0)
    assert [motor.torque for motor in motors] == [True] * 6 + [False]
    assert gym.driver.look().effort_mA[2] == pytest.approx(-430.0)


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (0x00, ""),
        (0x01, "input voltage (hardware error 0x01)"),
        (0x24, "overheating, overload (hardware error 0x24)"),
        (0x40, "unknown (hardware error 0x40)"),
    ],
)
def test_a_register_becomes_words(register, words):
    assert error_words(register) == words


def test_motors_that_do_not_answer_are_no_good_motors(gym):
    gym.arm.silent_motors = 2
    assert {motor.error for motor in gym.driver.motors()} == {"only 5 of 7 motors answer"}
    with pytest.raises(MotorFault, match="only 5 of 7"):
        gym.driver.reset(TASK, seed=0)


def test_a_reset_refuses_broken_motors_and_a_reboot_mends_them(gym):
    gym.arm.errors[2] = 0x04
    moved = len(gym.arm.commands)
    with pytest.raises(MotorFault, match="elbow reports overheating"):
        gym.driver.reset(TASK, seed=0)
    assert len(gym.arm.commands) == moved
    gym.driver.reboot_motors()
    assert gym.line.calls.count("reboot_motor") == 1
    gym.driver.reset(TASK, seed=0)


def test_a_motor_that_stays_broken_after_a_reboot_is_told(gym):
    gym.arm.errors[2] = 0x04
    gym.server.deaf_reboot = True
    with pytest.raises(MotorFault, match="also after a reboot"):
        gym.driver.reboot_motors()


def test_sleep_switches_the_torque_off_only_in_the_cradle(gym):
    gym.driver.reset(TASK, seed=0)
    gym.driver.sleep()
    assert not gym.arm.torque.any()
    calls = gym.line.calls
    assert calls.index("reset") < calls.index("enable_torque")
    with pytest.raises(MotorFault, match="torque off; wake the arm"):
        gym.driver.reset(TASK, seed=0)
    gym.driver.wake()
    assert gym.arm.torque.all()


def test_torque_that_does_not_come_back_is_told_because_the_call_itself_answers_nothing(gym, monkeypatch):
    gym.driver.reset(TASK, seed=0)
    gym.driver.sleep()
    monkeypatch.setattr(fake_manipulator_gym.Interface, "enable_torque", lambda *_, **__: None)
    with pytest.raises(MotorFault, match="torque that is not on"):
        gym.driver.wake()


def test_an_arm_whose_torque_went_off_is_found_dropped(gym):
    gym.driver.reset(TASK, seed=0)
    before = gym.arm.pose.position
    gym.arm.torque[:] = 0
    gym.time.sleep(0.1)  # the client keeps an observation for 50 ms
    assert np.linalg.norm(gym.driver.look().proprio[:3] - before) > 0.1
    assert not any(motor.torque for motor in gym.driver.motors())


def test_an_older_package_without_currents_gives_none(gym, monkeypatch):
    monkeypatch.delattr(fake_manipulator_gym.Interface, "joint_efforts")
    assert gym.driver.look().effort_mA.tolist() == [0.0] * 7
    assert all(motor.current_mA is None for motor in gym.driver.motors())


def test_a_camera_before_its_first_picture_is_named(gym):
    """The package begins with an array made of the numbers 480, 640, 3."""
    gym.driver.reset(TASK, seed=0)
    gym.camera.dead, gym.camera.last = True, np.array((224, 128, 3), dtype=np.uint8)
    gym.time.sleep(1.0)
    with pytest.raises(Exception, match=r"uint8 \[H, W, 3\], found uint8 \(3,\)"):
        gym.driver.look()


def test_registers_that_do_not_come_are_no_healthy_motors(gym):
    gym.line.mute = 1
    with pytest.raises(DriverDisconnected, match="get_torque_status"):
        gym.driver.motors()


def test_without_the_labs_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)
    with pytest.raises(LabPackageMissing, match="rail-berkeley/manipulator_gym and agentlace"):
        ManipulatorGymLink("127.0.0.1", 5556)


def test_without_a_server_opening_is_refused(gym):
    gym.cut()
    with pytest.raises(DriverDisconnected, match="connect"):
        ManipulatorGymLink("127.0.0.1", 5556)
