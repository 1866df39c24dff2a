from __future__ import annotations

import numpy as np
import pytest

from robot_bridge.conventions import DEFAULT_ROTATION, Pose, pose_of_vector
from robot_bridge.drivers.cell import CellVariant, cell_variant, nominal_cell
from robot_bridge.drivers.driver import RobotDriver
from robot_bridge.drivers.kinematics import FINGER_HIGH
from robot_bridge.drivers.mujoco_widowx import EFFORT_MAX_MA, TRACKING_MAX, MujocoWidowX
from robot_bridge.drivers.tasks import TASKS
from robot_bridge.errors import BadAction, BadArray, MotorFault, UnknownTask
from robot_bridge.safety import Limits, SafetyPipeline
from robot_bridge.watches import TrackingWatch


def quick(cell=None, size=8):
    return MujocoWidowX(cell=cell or nominal_cell(), renderer="raycast", image_size=size)


def moved(target, by):
    return Pose(target.position + np.array(by), target.rotation)


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("image", "proprio", "qpos", "effort_mA")
    )


def test_a_cell_is_a_robot_driver(driver):
    typed: RobotDriver = driver  # mypy holds the rest
    assert typed.description.robot_model == "widowx_250s"


def test_observations_have_the_shapes_of_the_wire(task_id):
    driver = quick(size=256)
    for sample in (driver.reset(task_id, seed=1), driver.step(driver.target, 1.0).sample):
        assert (sample.image.shape, sample.image.dtype) == ((256, 256, 3), np.uint8)
        assert (sample.proprio.shape, sample.proprio.dtype) == ((7,), np.float32)
        assert (sample.qpos.shape, sample.qpos.dtype) == ((8,), np.float32)
        assert (sample.effort_mA.shape, sample.effort_mA.dtype) == ((7,), np.float32)
        assert sample.image.std() > 10, "something is in the picture"
    driver.close()


def test_the_same_seed_gives_the_same_episode_whatever_came_before(task_id, player, continuer):
    one, other = quick(size=32), quick(size=32)
    player(other, "close_drawer", seed=99, steps=5)
    assert same(one.reset(task_id, seed=7), other.reset(task_id, seed=7))
    for _ in range(8):
        continuer(one, steps=1)
        continuer(other, steps=1)
        assert same(one.step(one.target, 1.0).sample, other.step(other.target, 1.0).sample)


def test_another_seed_gives_another_start(driver, task_id):
    starts = [driver.reset(task_id, seed=seed).qpos for seed in range(4)]
    assert len({start.tobytes() for start in starts}) == 4


def test_at_the_start_the_gripper_is_open_still_and_points_down(driver, task_id):
    sample = driver.reset(task_id, seed=3)
    assert sample.proprio[3:6] == pytest.approx([0.0, 0.0, 0.0], abs=0.01)
    assert sample.proprio[6] == pytest.approx(1.08, abs=0.02)
    assert sample.proprio[:3] == pytest.approx(driver.target.position, abs=0.003)
    assert driver.target.rotation == pytest.approx(DEFAULT_ROTATION)
    assert not driver.success()


@pytest.mark.parametrize("by", [(0.04, 0, 0), (0, 0.04, 0), (0, -0.04, 0), (0, 0, 0.03), (-0.03, 0.02, 0.02)])
def test_the_gripper_goes_where_it_is_asked_to_and_does_not_tilt(driver, by):
    driver.reset("put_eggplant_blue_sink", seed=1)
    asked = moved(driver.target, by)
    for _ in range(2):
        outcome = driver.step(asked, 1.0)
    assert outcome.ik_ok
    assert outcome.target is asked
    assert outcome.sample.proprio[:3] == pytest.approx(asked.position, abs=0.003)
    assert outcome.sample.proprio[3:6] == pytest.approx([0.0, 0.0, 0.0], abs=0.02)


def test_most_of_a_step_is_done_within_its_own_period(driver):
    driver.reset("open_drawer", seed=1)
    before = driver.ground_truth().gripper
    outcome = driver.step(moved(driver.target, (0.0, 0.03, 0.0)), 1.0)
    assert 0.7 * 0.03 < outcome.sample.proprio[1] - before[1] < 1.1 * 0.03


def test_a_turn_is_followed_too(driver):
    driver.reset("put_eggplant_blue_sink", seed=1)
    turned = pose_of_vector([*driver.target.position, 0.0, 0.0, 0.2, 1.0])
    for _ in range(2):
        outcome = driver.step(turned, 1.0)
    assert outcome.sample.proprio[3:6] == pytest.approx([0.0, 0.0, 0.2], abs=0.02)


def test_a_pose_out_of_reach_moves_nothing_and_keeps_the_target(driver):
    driver.reset("open_drawer", seed=1)
    held = driver.target
    before = driver.ground_truth().gripper
    outcome = driver.step(moved(held, (0.6, 0.0, 0.0)), 1.0)
    assert not outcome.ik_ok
    assert outcome.target is held
    assert driver.target is held
    assert outcome.sample.proprio[:3] == pytest.approx(before, abs=0.002)


def test_the_gripper_still_obeys_when_the_pose_is_out_of_reach(driver):
    driver.reset("open_drawer", seed=1)
    far = moved(driver.target, (0.6, 0.0, 0.0))
    for _ in range(2):
        outcome = driver.step(far, 0.0)
    assert outcome.sample.proprio[6] < 0.3


@pytest.mark.parametrize("gripper", [np.nan, np.inf, -np.inf])
def test_a_gripper_number_that_is_none_is_refused_before_anything_moves(driver, gripper):
    driver.reset("open_drawer", seed=1)
    held, before = driver.target, driver.ground_truth()
    with pytest.raises(BadAction, match="Nothing moved"):
        driver.step(moved(held, (0.01, 0.0, 0.0)), gripper)
    after = driver.ground_truth()
    assert driver.target is held
    assert (after.gripper == before.gripper).all()
    assert after.finger == before.finger


@pytest.mark.parametrize(("asked", "like"), [(7.0, 1.0), (-3.0, 0.0)])
def test_a_gripper_number_beyond_its_ends_means_the_end(driver, asked, like):
    ends = []
    for number in (asked, like):
        driver.reset("open_drawer", seed=1)
        ends.append(driver.step(driver.target, number).sample.qpos)
    assert (ends[0] == ends[1]).all()


def test_fingers_close_gradually_together_and_stop_at_their_ends(driver):
    driver.reset("open_drawer", seed=1)
    half = driver.step(driver.target, 0.5).sample.qpos[6:8]
    shut = [driver.step(driver.target, 0.0).sample.qpos[6:8] for _ in range(3)][-1]
    assert half == pytest.approx([0.026, 0.026], abs=0.002)
    assert shut == pytest.approx([0.015, 0.015], abs=0.001)
    opened = [driver.step(driver.target, 1.0).sample.qpos[6:8] for _ in range(3)][-1]
    assert opened == pytest.approx([FINGER_HIGH, FINGER_HIGH], abs=0.001)


def test_shutting_the_gripper_takes_longer_than_one_period(driver):
    driver.reset("open_drawer", seed=1)
    first, second = (driver.step(driver.target, 0.0).sample.qpos[6] for _ in range(2))
    assert 0.0165 < first < 0.024, "still closing, as a slow hand does"
    assert second == pytest.approx(0.015, abs=3e-4)


def test_a_step_takes_a_fifth_of_a_second_and_time_never_runs_back(driver):
    times = [driver.reset("open_drawer", seed=1).captured_at]
    times += [driver.step(driver.target, 1.0).sample.captured_at for _ in range(3)]
    times.append(driver.reset("close_drawer", seed=1).captured_at)
    assert np.diff(times[:4]) == pytest.approx([0.2] * 3, abs=1e-9)
    assert times[4] > times[3]


def test_an_arm_held_out_draws_current_in_its_shoulder_and_none_in_its_waist(driver):
    driver.reset("open_drawer", seed=1)
    currents = driver.step(driver.target, 1.0).sample.effort_mA
    assert abs(currents[1]) > 100
    assert abs(currents[0]) < 20


def test_shoulder_and_elbow_share_their_torque_between_two_servos(driver):
    driver.reset("open_drawer", seed=1)
    sample = driver.step(driver.target, 1.0).sample
    torque = driver._state.qfrc_actuator[:6] + driver._state.qfrc_gravcomp[:6]
    per_nm = np.abs(sample.effort_mA[1:3] / torque[1:3])
    assert per_nm == pytest.approx(2300.0 / 4.1 / 2, rel=1e-3)


def test_free_motion_stays_far_below_what_the_motors_bear(driver):
    driver.reset("put_eggplant_blue_sink", seed=0)
    peaks, behind = [], []
    for step in range(12):
        sign = 1.0 if step % 4 < 2 else -1.0
        sample = driver.step(moved(driver.target, (0.04 * sign, -0.04 * sign, 0.0)), 1.0).sample
        peaks.append(np.abs(sample.effort_mA[:6]).max())
        behind.append(np.linalg.norm(sample.proprio[:3] - driver.target.position))
    assert max(peaks) < EFFORT_MAX_MA / 2
    assert max(behind) < TRACKING_MAX / 5


def test_pressing_on_the_table_is_an_overload_and_soon_an_arm_that_does_not_follow(driver):
    driver.reset("put_eggplant_blue_sink", seed=0)
    watch, peaks = TrackingWatch(driver.description.tracking_max_m), []
    with pytest.raises(MotorFault, match="from its target"):
        for _ in range(20):
            outcome = driver.step(moved(driver.target, (0, 0, -0.03)), 0.0)
            peaks.append(np.abs(outcome.sample.effort_mA[:6]).max())
            watch.check(outcome.sample, outcome.target)
    assert max(peaks) > driver.description.effort_max_mA == EFFORT_MAX_MA


def test_the_effort_guard_keeps_the_same_press_from_going_deeper(driver):
    first = driver.reset("put_eggplant_blue_sink", seed=0)
    low, high = (0.2, -0.19, -0.3), (0.4, 0.19, 0.19)  # a box that somebody got wrong
    safe = SafetyPipeline(Limits(box_low=low, box_high=high, effort_max_mA=EFFORT_MAX_MA))
    safe.begin(first)
    behind = []
    for _ in range(20):
        command = safe.apply(driver.target, [0, 0, -0.03, 0, 0, 0, 0])
        outcome = driver.step(command.target, command.gripper)
        safe.took(outcome)
        behind.append(np.linalg.norm(outcome.sample.proprio[:3] - outcome.target.position))
    assert safe.counts["effort"] >= 5
    assert max(behind) < TRACKING_MAX


def test_with_the_arm_known_the_table_is_not_even_touched(driver):
    first = driver.reset("put_eggplant_blue_sink", seed=0)
    low, high = (0.2, -0.19, -0.3), (0.4, 0.19, 0.19)
    safe = SafetyPipeline(Limits(box_low=low, box_high=high, effort_max_mA=EFFORT_MAX_MA), arm=driver.arm)
    safe.begin(first)
    for _ in range(12):
        command = safe.apply(driver.target, [0, 0, -0.03, 0, 0, 0, 0])
        safe.took(driver.step(command.target, command.gripper))
    assert safe.counts["collision"] > 0
    assert safe.counts["effort"] == 0
    assert driver.target.position[2] == pytest.approx(0.012, abs=0.004)  # fingertips just above the table


def test_squeezing_a_thing_draws_current_in_the_gripper(driver, player):
    played = player(driver, "put_eggplant_yellow_basket", seed=2, steps=14)
    assert played.states[-1].fingers_touching == 2
    holding = driver.step(driver.target, 0.0).sample.effort_mA[6]
    driver.reset("put_eggplant_yellow_basket", seed=2)
    idle = driver.step(driver.target, 1.0).sample.effort_mA[6]
    assert abs(holding) > abs(idle) + 100


def test_a_drawer_stays_where_it_was_left(driver):
    driver.reset("close_drawer", seed=5)
    before = driver.ground_truth().drawer
    for _ in range(10):
        driver.step(driver.target, 1.0)
    assert driver.ground_truth().drawer == pytest.approx(before, abs=1e-4)


def test_an_eggplant_lies_still_until_it_is_touched(driver):
    driver.reset("put_eggplant_blue_sink", seed=5)
    before = driver.ground_truth()
    for _ in range(10):
        driver.step(driver.target, 1.0)
    after = driver.ground_truth()
    assert after.eggplant == pytest.approx(before.eggplant, abs=1e-3)
    assert after.eggplant_speed < 0.01
    assert after.fingers_touching == 0


def test_a_held_eggplant_hangs_in_the_air_and_is_not_a_success(driver, player):
    played = player(driver, "put_eggplant_yellow_basket", seed=2, steps=16)
    for _ in range(10):
        driver.step(driver.target, 0.0)
    state = driver.ground_truth()
    assert state.eggplant[2] > 0.06
    assert state.fingers_touching == 2
    assert not any(played.success)
    assert not driver.success()


def test_a_dropped_eggplant_falls(driver, player):
    player(driver, "put_eggplant_yellow_basket", seed=2, steps=16)
    height = driver.ground_truth().eggplant[2]
    for _ in range(3):
        driver.step(driver.target, 1.0)
    assert driver.ground_truth().eggplant[2] < height - 0.03


def test_nothing_is_glued_without_friction_nothing_can_be_lifted(player):
    slippery = quick(CellVariant(friction=0.0005))
    played = player(slippery, "put_eggplant_yellow_basket", seed=2)
    assert max(state.eggplant[2] for state in played.states) < 0.05
    assert not played.success[-1]


def test_pushing_the_bar_of_an_open_drawer_closes_it_by_contact(driver):
    driver.reset("close_drawer", seed=1)
    truth = driver.ground_truth()
    start = truth.handle + np.array([0.0, -0.06, 0.0])
    for place in ([start[0], start[1], 0.15], start, truth.handle + np.array([0.0, 0.03, 0.0])):
        target = Pose(np.array(place), DEFAULT_ROTATION)
        for _ in range(6):
            driver.step(target, 0.0)
    assert driver.ground_truth().drawer < truth.drawer - 0.02


def test_a_slower_cell_lags_behind_a_quicker_one():
    covered = []
    for latency in (0.0, 0.06):
        driver = quick(CellVariant(latency_s=latency))
        driver.reset("open_drawer", seed=1)
        before = driver.ground_truth().gripper[1]
        covered.append(driver.step(moved(driver.target, (0.0, 0.03, 0.0)), 1.0).sample.proprio[1] - before)
    assert covered[0] > covered[1] + 0.001


def test_two_cells_look_different():
    pictures = [quick(cell_variant(seed), size=64).reset("open_drawer", seed=1).image for seed in (0, 1)]
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() > 5


def test_an_unknown_task_is_refused_and_the_episode_goes_on(driver):
    driver.reset("open_drawer", seed=1)
    held = driver.target
    with pytest.raises(UnknownTask):
        driver.reset("fold_cloth", seed=1)
    assert driver.target is held
    assert driver.task.task_id == "open_drawer"


@pytest.mark.parametrize("size", [0, 7, 641, -256])
def test_an_image_size_no_camera_has_is_refused(size):
    with pytest.raises(BadArray, match="image size"):
        quick(size=size)


def test_the_description_names_the_four_tasks_with_their_boxes(driver):
    description = driver.description
    assert [task.task_id for task in description.tasks] == list(TASKS)
    assert (description.control_hz, description.step_xyz_max, description.step_rot_max) == (5.0, 0.05, 0.25)
    for task in description.tasks:
        assert (np.array(task.box_low) < task.box_high).all()
        assert task.instruction == TASKS[task.task_id].instruction
    assert (description.camera.width, description.camera.renderer) == (8, "raycast")


def test_the_software_digest_tells_cells_apart_and_nothing_else():
    one, same_cell, other = (quick(cell_variant(seed)).description.software_digest for seed in (1, 1, 2))
    assert one == same_cell
    assert one != other
    assert len(one) == 64


def test_a_closed_cell_may_be_closed_again():
    driver = quick()
    driver.reset("open_drawer", seed=1)
    driver.close()
    driver.close()


def test_the_two_scenes_tell_what_they_have_and_zeros_for_the_rest(driver):
    driver.reset("open_drawer", seed=1)
    at_drawer = driver.ground_truth()
    driver.reset("put_eggplant_blue_sink", seed=1)
    at_trays = driver.ground_truth()
    assert at_drawer.handle[2] == pytest.approx(0.065)
    assert not at_drawer.eggplant.any()
    assert at_trays.eggplant[2] == pytest.approx(0.023, abs=0.002)
    assert at_trays.sink == pytest.approx([0.305, -0.105])
    assert (at_trays.drawer, at_trays.drawer_speed) == (0.0, 0.0)
