"""What a station relies on in any driver, held against the toy robot and the simulated cell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest

from robot_bridge.conventions import Pose, compose_target
from robot_bridge.drivers.cell import nominal_cell
from robot_bridge.drivers.driver import RobotDriver, Sample
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.errors import UnknownTask
from robot_bridge.safety import IK_FAILED, Limits, SafetyPipeline
from robot_bridge.watches import CameraWatch, TrackingWatch, require_well
from tests.robot_bridge.toy_driver import ToyDriver

OUT_OF_REACH = np.array([2.0, 0.0, 1.0])  # metres; no arm here is that long
IMAGE = 64  # pixels: enough to see that pictures change, quick to make


def simulated_cell() -> RobotDriver:
    return MujocoWidowX(cell=nominal_cell(), renderer="raycast", image_size=IMAGE)


@pytest.fixture(scope="module", params=[ToyDriver, simulated_cell], ids=["toy", "simulated cell"])
def driver(request: pytest.FixtureRequest) -> Iterator[RobotDriver]:
    make: Callable[[], RobotDriver] = request.param
    made = make()
    yield made
    made.close()


def task_ids(driver: RobotDriver) -> list[str]:
    return [task.task_id for task in driver.description.tasks]


def begun(driver: RobotDriver, *, seed: int = 5, task: int = 0) -> Sample:
    return driver.reset(task_ids(driver)[task], seed=seed)


def moved(
    driver: RobotDriver, xyz: tuple[float, float, float], *, gripper: float = 1.0, times: int = 1
) -> Sample:
    """Step by the same delta several times, within the task's limits; gives the last sample."""
    description = driver.description
    task = description.tasks[0]
    pipeline = SafetyPipeline(Limits(box_low=task.box_low, box_high=task.box_high))
    for _ in range(times):
        command = pipeline.apply(driver.target, [*xyz, 0.0, 0.0, 0.0, gripper])
        sample = driver.step(command.target, command.gripper).sample
    return sample


def same(first: Sample, second: Sample) -> bool:
    arrays = ("image", "proprio", "qpos", "effort_mA")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays)


def test_a_driver_says_who_it_is_and_says_the_same_every_time(driver):
    description = driver.description
    assert description == driver.description
    assert description.robot_model
    assert len(description.software_digest) == 64
    assert int(description.software_digest, 16) >= 0
    assert description.control_hz == 5.0
    assert 0 < description.step_xyz_max <= 0.05
    assert 0 < description.step_rot_max <= 0.25
    assert description.camera.renderer


def test_every_task_has_an_instruction_and_a_box_with_room_in_it(driver):
    assert len(set(task_ids(driver))) == len(task_ids(driver)) >= 1
    for task in driver.description.tasks:
        assert task.instruction
        assert all(high - low >= 0.05 for low, high in zip(task.box_low, task.box_high, strict=True))


def test_every_task_can_be_reset_and_its_arm_starts_inside_its_box(driver):
    for number, task in enumerate(driver.description.tasks):
        begun(driver, task=number)
        assert (driver.target.position >= task.box_low).all(), task.task_id
        assert (driver.target.position <= task.box_high).all(), task.task_id
        assert driver.success() is False


def test_a_sample_has_the_shapes_types_and_sizes_that_episodes_are_made_of(driver):
    camera = driver.description.camera
    for sample in (begun(driver), moved(driver, (0.01, 0.0, 0.0))):
        assert (sample.image.shape, sample.image.dtype) == ((camera.height, camera.width, 3), np.uint8)
        for name, width in (("proprio", 7), ("qpos", 8), ("effort_mA", 7)):
            array = getattr(sample, name)
            assert (array.shape, array.dtype) == ((width,), np.float32), name
            assert np.isfinite(array).all(), name
        assert isinstance(sample.captured_at, float)


def test_the_same_seed_and_commands_give_the_same_episode_to_the_last_bit(driver):
    def episode() -> list[Sample]:
        return [begun(driver), *(moved(driver, (0.01, 0.01, -0.005), gripper=t % 2) for t in range(4))]

    first = episode()
    moved(driver, (-0.02, 0.0, 0.0), times=3)  # what happened before must not matter
    assert all(same(a, b) for a, b in zip(first, episode(), strict=True))


def test_another_seed_gives_another_episode(driver):
    assert not same(begun(driver, seed=5), begun(driver, seed=6))


def test_the_robots_clock_advances_by_one_control_period_per_step(driver):
    samples = [begun(driver), *(moved(driver, (0.0, 0.0, 0.0)) for _ in range(3))]
    for before, after in pairwise(samples):
        assert after.captured_at - before.captured_at == pytest.approx(0.2, abs=1e-6)


def test_a_target_that_can_be_reached_becomes_the_target(driver):
    begun(driver)
    goal = compose_target(driver.target, [0.01, -0.01, -0.01, 0.0, 0.0, 0.05, 1.0])
    outcome = driver.step(goal, 1.0)
    assert outcome.ik_ok is True
    for held in (outcome.target, driver.target):
        np.testing.assert_allclose(held.position, goal.position, atol=1e-9)
        np.testing.assert_allclose(held.rotation, goal.rotation, atol=1e-9)


def test_a_target_out_of_reach_is_reported_and_leaves_the_last_one_in_place(driver):
    begun(driver)
    before = driver.target
    outcome = driver.step(Pose(OUT_OF_REACH, before.rotation), 1.0)
    assert outcome.ik_ok is False
    for held in (outcome.target, driver.target):
        np.testing.assert_array_equal(held.position, before.position)
        np.testing.assert_array_equal(held.rotation, before.rotation)
    measured = outcome.sample.proprio[:3]
    assert np.abs(measured - before.position).max() < 0.02


def test_the_arm_goes_where_it_is_told_within_a_few_steps(driver):
    start = begun(driver).proprio[:3]
    sample = moved(driver, (0.0, 0.0, -0.01), times=3)
    sample = moved(driver, (0.0, 0.0, 0.0), times=3)
    assert np.abs(sample.proprio[:3] - driver.target.position).max() < 0.01
    assert start[2] - sample.proprio[2] == pytest.approx(0.03, abs=0.015)


def test_the_gripper_closes_and_opens(driver):
    begun(driver)
    opened = moved(driver, (0.0, 0.0, 0.0), gripper=1.0, times=4).proprio[6]
    closed = moved(driver, (0.0, 0.0, 0.0), gripper=0.0, times=4).proprio[6]
    again = moved(driver, (0.0, 0.0, 0.0), gripper=1.0, times=4).proprio[6]
    assert opened > 0.7
    assert closed < 0.4
    assert again == pytest.approx(opened, abs=0.1)


def test_what_the_camera_sees_changes_when_the_arm_moves(driver):
    first = begun(driver).image
    last = moved(driver, (-0.02, 0.02, 0.0), times=3).image
    assert (first != last).any(axis=-1).mean() > 0.005


def test_samples_that_were_given_out_do_not_change_afterwards(driver):
    first = begun(driver)
    image, proprio, qpos = first.image.copy(), first.proprio.copy(), first.qpos.copy()
    moved(driver, (-0.02, 0.02, 0.0), times=3)
    np.testing.assert_array_equal(first.image, image)
    np.testing.assert_array_equal(first.proprio, proprio)
    np.testing.assert_array_equal(first.qpos, qpos)


def test_asking_for_the_verdict_changes_nothing(driver):
    begun(driver)
    plain = moved(driver, (0.01, 0.0, 0.0), times=2)
    begun(driver)
    verdicts = [driver.success()]
    for _ in range(2):
        asked = moved(driver, (0.01, 0.0, 0.0))
        verdicts += [driver.success(), driver.success()]
    assert same(plain, asked)
    assert verdicts[1] == verdicts[2]
    assert all(isinstance(verdict, bool) for verdict in verdicts)


def test_the_largest_speeds_currents_and_distances_are_numbers_that_limit_something(driver):
    description = driver.description
    for name in ("ee_speed_max", "joint_speed_max", "effort_max_mA", "tracking_max_m"):
        assert 0 < getattr(description, name) < np.inf, name


def test_pictures_are_numbered_and_the_numbers_rise_also_over_a_reset(driver):
    numbers = [begun(driver).seq]
    numbers += [moved(driver, (0.01, 0.0, 0.0)).seq for _ in range(3)]
    numbers.append(begun(driver).seq)
    assert all(before < after for before, after in pairwise(numbers))
    assert driver.description.camera.name


def test_a_driver_that_is_well_passes_every_watch(driver):
    description = driver.description
    camera = CameraWatch(description.camera, period_s=1.0 / description.control_hz)
    tracking = TrackingWatch(description.tracking_max_m)
    camera.check(begun(driver))
    for step in range(8):
        sample = moved(driver, (-0.02 if step < 4 else 0.02, 0.0, 0.0))
        camera.check(sample)
        tracking.check(sample, driver.target)
    require_well(driver.motors())
    assert camera.status().age_ms >= 0.0


def test_every_motor_is_told_about_by_its_own_name(driver):
    begun(driver)
    motors = driver.motors()
    assert len({motor.name for motor in motors}) == len(motors) == 7
    assert all(motor.torque and motor.error == "" for motor in motors)
    assert all(motor.current_mA is None or np.isfinite(motor.current_mA) for motor in motors)


def test_asking_for_the_motors_moves_nothing(driver):
    begun(driver)
    plain = moved(driver, (0.01, 0.0, 0.0), times=2)
    begun(driver)
    moved(driver, (0.01, 0.0, 0.0))
    driver.motors()
    assert same(plain, moved(driver, (0.01, 0.0, 0.0)))


def test_a_held_arm_goes_on_from_where_it_holds(driver):
    begun(driver)
    moved(driver, (0.01, 0.0, 0.0), times=2)
    driver.hold()
    held = driver.target
    sample = moved(driver, (0.0, 0.0, 0.0), times=2)
    assert np.abs(sample.proprio[:3] - held.position).max() < 0.01


@pytest.mark.parametrize("leave", ["park", "sleep"])
def test_an_arm_that_was_left_is_ready_again_after_a_reset(driver, leave):
    begun(driver)
    first = moved(driver, (0.01, 0.0, 0.0))
    getattr(driver, leave)()
    if leave == "sleep":
        assert not any(motor.torque for motor in driver.motors())
        driver.wake()
    begun(driver)
    require_well(driver.motors())
    assert same(first, moved(driver, (0.01, 0.0, 0.0)))


def test_rebooted_motors_are_well(driver):
    driver.reboot_motors()
    require_well(driver.motors())


def test_where_the_arm_is_known_the_pipeline_and_the_driver_agree_on_its_joints(driver):
    """What the pipeline found reachable the driver takes, and the joints end where the pipeline said."""
    arm, task = driver.arm, driver.description.tasks[0]
    first = begun(driver)
    pipeline = SafetyPipeline(Limits(box_low=task.box_low, box_high=task.box_high), arm=arm)
    pipeline.begin(first)
    rng = np.random.default_rng(0)
    for _ in range(6):
        command = pipeline.apply(driver.target, [*rng.uniform(-0.02, 0.02, 3), 0.0, 0.0, 0.05, 1.0])
        outcome = driver.step(command.target, command.gripper)
        assert outcome.ik_ok
        assert pipeline.took(outcome) == 0
        assert command.flags & IK_FAILED == 0
    assert (command.joints is None) is (arm is None)
    if arm is not None:
        assert not arm.collides(command.joints)
        settled = driver.step(command.target, command.gripper).sample
        np.testing.assert_allclose(settled.qpos[:6], command.joints, atol=0.02)
        measured = arm.forward(settled.qpos[:6].astype(np.float64)).position
        np.testing.assert_allclose(measured, settled.proprio[:3], atol=1e-4)


@pytest.mark.parametrize("task_id", ["fold_cloth", "", "OPEN_DRAWER"])
def test_a_task_that_is_not_known_is_refused_and_the_driver_goes_on(driver, task_id):
    with pytest.raises(UnknownTask):
        driver.reset(task_id, seed=0)
    assert begun(driver).proprio.shape == (7,)


@pytest.mark.parametrize("make", [ToyDriver, simulated_cell], ids=["toy", "simulated cell"])
def test_a_driver_may_be_made_in_one_thread_and_live_in_another(make):
    driver = make()
    faults: list[BaseException] = []

    def live() -> None:
        try:
            begun(driver)
            moved(driver, (0.01, 0.0, 0.0), times=2)
            driver.close()
            driver.close()
        except Exception as fault:
            faults.append(fault)

    thread = threading.Thread(target=live)
    thread.start()
    thread.join()
    assert faults == []
