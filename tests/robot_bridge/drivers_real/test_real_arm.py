"""What a station relies on in a driver of a real arm, held against both packages' emulators."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from robot_bridge.conventions import Pose, compose_target, delta_between, rotation_angle
from robot_bridge.drivers import kinematics
from robot_bridge.drivers.driver import Sample, StepOutcome
from robot_bridge.drivers.lab_tasks import AUTOEVAL_TASKS
from robot_bridge.drivers.long_way import ARRIVED_XYZ
from robot_bridge.drivers.real_arm import (
    NEUTRAL_JOINTS,
    SLEEP_JOINTS,
    ArmNotReady,
    RealWidowX,
)
from robot_bridge.errors import (
    BadAction,
    DriverDisconnected,
    DriverError,
    MotorFault,
    NeedsHuman,
    UnknownTask,
)
from tests.robot_bridge.drivers_real.labs import Lab

TASK = "put_eggplant_blue_sink"


def step(driver: RealWidowX, *action: float, times: int = 1) -> StepOutcome:
    """The same bridge_v2 action several times; the gripper is the seventh, if there is one."""
    whole = action if len(action) == 7 else (*action, 1.0)
    for _ in range(times):
        outcome = driver.step(compose_target(driver.target, whole), whole[6])
    return outcome


def measured(lab: Lab) -> Pose:
    return lab.arm.pose


def test_making_a_driver_and_looking_through_it_moves_nothing(lab):
    before = len(lab.arm.commands)
    lab.driver.look()
    lab.driver.motors()
    assert lab.driver.description.camera.noisy
    assert lab.driver.description.camera.renderer == "camera"
    assert len(lab.arm.commands) == before


def test_a_description_is_the_same_every_time(lab):
    assert lab.driver.description == lab.driver.description
    assert len(lab.driver.description.software_digest) == 64
    assert [task.task_id for task in lab.driver.description.tasks][:2] == ["open_drawer", "close_drawer"]


@pytest.mark.parametrize(
    "task_id", ["open_drawer", "close_drawer", "put_eggplant_blue_sink", "put_eggplant_yellow_basket"]
)
def test_a_reset_brings_the_arm_home_and_the_gripper_open(lab, task_id):
    sample = lab.driver.reset(task_id, seed=1)
    task = next(task for task in lab.driver.description.tasks if task.task_id == task_id)
    assert (lab.driver.target.position >= task.box_low).all()
    assert (lab.driver.target.position <= task.box_high).all()
    assert np.linalg.norm(measured(lab).position - lab.driver.target.position) < ARRIVED_XYZ
    assert sample.proprio[6] > 0.9
    assert np.abs(sample.proprio[3:5]).max() < 0.1  # straight down


def test_a_sample_has_the_shapes_and_types_that_episodes_are_made_of(lab):
    lab.driver.reset(TASK, seed=0)
    for sample in (lab.driver.look(), step(lab.driver, 0.01, 0, 0, 0, 0, 0).sample):
        assert (sample.image.shape, sample.image.dtype) == ((256, 256, 3), np.uint8)
        for name, width in (("proprio", 7), ("qpos", 8), ("effort_mA", 7)):
            array = getattr(sample, name)
            assert (array.shape, array.dtype) == ((width,), np.float32), name
            assert np.isfinite(array).all(), name


def test_colours_arrive_as_they_are(lab):
    sample = lab.driver.reset(TASK, seed=0)
    gripper = sample.image[sample.image[..., 0] > 180]
    assert len(gripper) > 50  # the emulated gripper is orange
    assert gripper[:, 0].mean() > gripper[:, 2].mean() + 100


def test_the_measured_joints_are_those_of_the_arm(lab):
    lab.driver.reset(TASK, seed=0)
    sample = step(lab.driver, 0.01, 0.01, -0.01, 0, 0, 0.1).sample
    np.testing.assert_allclose(sample.qpos[:6], lab.arm.joints, atol=0.01)
    np.testing.assert_allclose(sample.qpos[6:], lab.arm.finger, atol=1e-4)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("way", [0.02, -0.02])
def test_the_arm_goes_where_it_is_told(lab, axis, way):
    lab.driver.reset(TASK, seed=0)
    start = measured(lab).position
    action = np.zeros(6)
    action[axis] = way
    outcome = step(lab.driver, *action, times=2)
    assert outcome.ik_ok
    moved = measured(lab).position - start
    expected = 2 * action[:3]
    np.testing.assert_allclose(moved, expected, atol=0.006)


@pytest.mark.parametrize("axis", range(3), ids=["roll", "pitch", "yaw"])
@pytest.mark.parametrize("way", [0.15, -0.15])
def test_a_turn_about_a_world_axis_is_that_turn_and_no_other(lab, axis, way):
    """SimplerEnv#78: on the real arm a roll came out as a yaw."""
    lab.driver.reset(TASK, seed=0)
    step(lab.driver, *np.zeros(6), times=3)
    start = measured(lab)
    action = np.zeros(6)
    action[3 + axis] = way
    step(lab.driver, *action)
    turned = delta_between(start, measured(lab))[3:]
    wanted = np.zeros(3)
    wanted[axis] = way
    np.testing.assert_allclose(turned, wanted, atol=0.04)


def test_a_long_walk_with_turns_does_not_drift_from_its_targets(lab):
    lab.driver.reset(TASK, seed=0)
    random = np.random.default_rng(3)
    centre = lab.driver.target.position
    off, turned = [], []
    for _ in range(80):
        back = np.clip(centre - lab.driver.target.position, -0.01, 0.01)
        action = np.concatenate([back + random.uniform(-0.02, 0.02, 3), random.uniform(-0.06, 0.06, 3)])
        if rotation_angle(lab.driver.target.rotation @ kinematics_down().T) > 0.4:
            action[3:] = 0.0
        outcome = step(lab.driver, *action)
        off.append(np.linalg.norm(measured(lab).position - outcome.target.position))
        turned.append(rotation_angle(measured(lab).rotation @ outcome.target.rotation.T))
    assert max(off) < 0.015
    assert max(turned) < 0.06


def kinematics_down():
    return np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


def test_the_gripper_is_told_only_when_it_changes(lab):
    lab.driver.reset(TASK, seed=0)
    assert step(lab.driver, 0, 0, 0, 0, 0, 0, 0.0, times=3).sample.proprio[6] < 0.4
    told = sum("grip" in call for call in lab.line.calls)
    assert told == 2  # open at the reset, closed once
    assert step(lab.driver, 0, 0, 0, 0, 0, 0, 1.0).sample.proprio[6] > 0.9


def test_a_step_takes_one_control_period_of_the_drivers_clock(lab):
    samples: list[Sample] = [lab.driver.reset(TASK, seed=0)]
    samples += [step(lab.driver, 0.005, 0, 0, 0, 0, 0).sample for _ in range(4)]
    for before, after in pairwise(samples[1:]):
        assert 0.2 <= after.captured_at - before.captured_at < 0.3


def test_nothing_is_ever_sent_faster_than_the_joints_may_go(lab):
    lab.driver.reset("open_drawer", seed=0)
    lab.driver.reset(TASK, seed=0)
    step(lab.driver, 0.05, 0, 0, 0, 0, 0)
    lab.driver.park()
    assert lab.arm.fastest < np.pi


def test_a_target_out_of_reach_is_refused_before_anything_is_sent(lab):
    lab.driver.reset(TASK, seed=0)
    before, commands = lab.driver.target, len(lab.arm.commands)
    outcome = lab.driver.step(Pose(np.array([2.0, 0.0, 1.0]), before.rotation), 1.0)
    assert outcome.ik_ok is False
    for held in (outcome.target, lab.driver.target):
        np.testing.assert_array_equal(held.position, before.position)
    assert len(lab.arm.commands) == commands


def test_a_leap_that_no_safe_action_asks_for_is_refused(lab):
    lab.driver.reset(TASK, seed=0)
    leap = Pose(np.add(lab.driver.target.position, (0.0, 0.15, 0.0)), lab.driver.target.rotation)
    commands = len(lab.arm.commands)
    assert lab.driver.step(leap, 1.0).ik_ok is False
    assert len(lab.arm.commands) == commands


def test_a_target_that_only_the_other_side_cannot_solve_leaves_the_arm_and_heals(lab):
    lab.driver.reset(TASK, seed=0)
    before = measured(lab).position
    lab.server.ik_fails = True
    step(lab.driver, 0.02, 0, 0, 0, 0, 0)
    np.testing.assert_allclose(measured(lab).position, before, atol=1e-3)  # in silence
    lab.server.ik_fails = False
    step(lab.driver, 0.0, 0, 0, 0, 0, 0, times=12)
    assert np.linalg.norm(measured(lab).position - lab.driver.target.position) < 0.01


def test_a_lost_reply_says_that_nobody_knows_and_is_not_sent_again(lab):
    lab.driver.reset(TASK, seed=0)
    lab.line.mute = 1
    commands, start = len(lab.arm.commands), measured(lab).position
    with pytest.raises(DriverDisconnected, match=lab.name):
        step(lab.driver, 0.02, 0, 0, 0, 0, 0)
    lab.time.sleep(1.0)
    assert len(lab.arm.commands) == commands + 1
    assert measured(lab).position[0] > start[0] + 0.01  # the motion went on
    with pytest.raises(ArmNotReady, match="unsure"):
        step(lab.driver, 0.02, 0, 0, 0, 0, 0)
    assert len(lab.arm.commands) == commands + 1


def test_after_an_unknown_outcome_hold_finds_out_where_the_arm_is(lab):
    lab.driver.reset(TASK, seed=0)
    lab.line.mute = 1
    with pytest.raises(DriverDisconnected):
        step(lab.driver, 0.02, 0, 0, 0, 0, 0)
    lab.time.sleep(1.0)
    lab.driver.hold()
    assert np.linalg.norm(lab.driver.target.position - measured(lab).position) < 0.01
    start = measured(lab).position
    step(lab.driver, 0, 0.02, 0, 0, 0, 0, times=2)
    np.testing.assert_allclose(measured(lab).position - start, [0, 0.04, 0], atol=0.01)


def test_holding_a_calm_arm_sends_nothing_so_that_it_cannot_creep(lab):
    lab.driver.reset(TASK, seed=0)
    step(lab.driver, 0.01, 0, 0, 0, 0, 0)
    target, commands = lab.driver.target, len(lab.arm.commands)
    for _ in range(5):
        lab.driver.hold()
    assert len(lab.arm.commands) == commands
    np.testing.assert_array_equal(lab.driver.target.position, target.position)


def test_a_line_that_is_cut_is_told_within_the_deadline_and_comes_back(lab):
    lab.driver.reset(TASK, seed=0)
    lab.cut()
    with pytest.raises(DriverDisconnected):
        step(lab.driver, 0.01, 0, 0, 0, 0, 0)
    with pytest.raises(DriverDisconnected):
        lab.driver.hold()
    with pytest.raises(DriverError):
        lab.driver.reset(TASK, seed=0)
    lab.mend()
    wait_until_calm(lab)
    assert lab.driver.reset(TASK, seed=0).image.shape == (256, 256, 3)


def wait_until_calm(lab: Lab) -> None:
    """A call that was stuck comes back once the line is mended."""
    stuck = lab.driver._link._line._stuck  # type: ignore[attr-defined]
    stuck.join(timeout=10.0)
    assert not stuck.is_alive()


def test_a_dead_camera_keeps_its_number_and_its_picture_ages(lab):
    lab.driver.reset(TASK, seed=0)
    before = step(lab.driver, 0.01, 0, 0, 0, 0, 0).sample
    lab.camera.dead = True
    seen = [step(lab.driver, 0.01, 0, 0, 0, 0, 0).sample for _ in range(3)]
    assert {sample.seq for sample in seen} == {before.seq}
    assert [sample.age_s > 0.15 * n for n, sample in enumerate(seen, 1)] == [True] * 3
    lab.camera.dead = False
    assert step(lab.driver, 0.0, 0, 0, 0, 0, 0).sample.seq == before.seq + 1


def test_a_living_camera_numbers_every_picture_also_when_nothing_moves(lab):
    lab.driver.reset(TASK, seed=0)
    samples = [step(lab.driver, 0, 0, 0, 0, 0, 0).sample for _ in range(3)]
    assert [after.seq - before.seq for before, after in pairwise(samples)] == [1, 1]
    assert all(sample.age_s < 0.1 for sample in samples)


def test_park_leaves_the_arm_at_its_neutral_pose_and_only_a_reset_goes_on(lab):
    lab.driver.reset(TASK, seed=0)
    lab.driver.park()
    neutral = kinematics.forward(np.array(NEUTRAL_JOINTS)).position
    assert np.linalg.norm(measured(lab).position - neutral) < ARRIVED_XYZ
    with pytest.raises(ArmNotReady, match="parked"):
        step(lab.driver, 0, 0, 0, 0, 0, 0)
    lab.driver.park()
    lab.driver.reset(TASK, seed=0)
    assert step(lab.driver, 0, 0, 0, 0, 0, 0).ik_ok


def test_sleep_lays_the_arm_into_its_cradle_and_wake_and_reset_bring_it_back(lab):
    lab.driver.reset(TASK, seed=0)
    lab.driver.sleep()
    cradle = kinematics.forward(np.array(SLEEP_JOINTS)).position
    assert np.linalg.norm(measured(lab).position - cradle) < ARRIVED_XYZ
    with pytest.raises(ArmNotReady, match="asleep"):
        step(lab.driver, 0, 0, 0, 0, 0, 0)
    lab.driver.park()  # stays where it lies
    assert np.linalg.norm(measured(lab).position - cradle) < ARRIVED_XYZ
    lab.driver.wake()
    lab.driver.reset(TASK, seed=0)
    assert step(lab.driver, 0, 0, 0.01, 0, 0, 0).ik_ok


def test_an_arm_that_does_not_arrive_is_a_fault(lab):
    lab.server.ik_fails = True
    with pytest.raises(MotorFault, match="cm and"):
        lab.driver.reset(TASK, seed=0)
    with pytest.raises(ArmNotReady):
        step(lab.driver, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("gripper", [np.nan, np.inf])
def test_a_gripper_that_is_no_number_never_reaches_the_arm(lab, gripper):
    lab.driver.reset(TASK, seed=0)
    calls = len(lab.line.calls)
    with pytest.raises(BadAction):
        lab.driver.step(lab.driver.target, gripper)
    assert len(lab.line.calls) == calls


def test_a_task_that_is_not_known_is_refused_and_moves_nothing(lab):
    calls = len(lab.line.calls)
    with pytest.raises(UnknownTask, match="open_drawer"):
        lab.driver.reset("juggle", seed=0)
    assert len(lab.line.calls) == calls


def test_nobody_here_knows_whether_a_task_succeeded(lab):
    lab.driver.reset(TASK, seed=0)
    assert lab.driver.success() is None


def test_a_cell_whose_objects_somebody_must_arrange_asks_once_per_reset(lab):
    driver = RealWidowX(
        lab.driver._link,
        tasks=tuple(lab.driver._tasks.values()),
        scene="ask",
        clock=lab.time,
        sleep=lab.time.sleep,
    )
    for _ in range(2):
        with pytest.raises(NeedsHuman, match="eggplant in the blue sink"):
            driver.reset(TASK, seed=0)
        driver.reset(TASK, seed=0)


@pytest.mark.parametrize(("scene", "reset"), [("ask", "human"), ("trust", "none")])
def test_every_task_says_who_arranges_its_scene_and_who_judges_it(lab, scene, reset):
    driver = RealWidowX(lab.driver._link, tasks=AUTOEVAL_TASKS, scene=scene)
    assert {(task.reset, task.judge) for task in driver.description.tasks} == {(reset, "human")}


def test_closing_twice_does_no_harm(lab):
    lab.driver.close()
    lab.driver.close()
