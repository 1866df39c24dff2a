from __future__ import annotations

import itertools

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robot_bridge.conventions import DEFAULT_ROTATION, Pose, rotation_of_euler
from robot_bridge.drivers import kinematics
from robot_bridge.drivers.cell import nominal_cell
from robot_bridge.drivers.kinematics import WIDOWX, WidowXArm
from robot_bridge.drivers.mujoco_widowx import NEAR_HOME
from robot_bridge.drivers.scene import scene_xml
from robot_bridge.drivers.tasks import TASKS

joints_within_limits = arrays(np.float64, 6, elements=st.floats(0.0, 1.0)).map(
    lambda share: kinematics.JOINT_LOW + share * (kinematics.JOINT_HIGH - kinematics.JOINT_LOW)
)


@pytest.mark.parametrize(
    ("joints", "position"),
    [
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.458325, 0.0, 0.36065]),  # the maker's own home
        ([-0.0184, 0.0399, 0.2224, -0.0046, 1.3652, 0.0015], [0.292, -0.006, 0.135]),  # SIMPLER, table
        ([-0.2601, -0.1288, 0.0446, -0.0065, 1.7033, -0.2698], [0.250, -0.068, 0.228]),  # SIMPLER, sink
        ([-0.1319, -0.7624, 0.4449, -0.0199, 1.7564, -0.1595], [0.120, -0.019, 0.247]),  # Bridge, neutral
    ],
)
def test_the_gripper_is_where_the_published_joints_put_it(joints, position):
    assert kinematics.forward(np.array(joints)).position == pytest.approx(position, abs=6e-4)


def test_with_all_joints_at_zero_the_gripper_points_forward():
    assert kinematics.forward(np.zeros(6)).rotation == pytest.approx(np.eye(3))


def test_the_chain_and_the_simulated_arm_agree_everywhere():
    model = mujoco.MjModel.from_xml_string(scene_xml("drawer", nominal_cell()))
    state = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    for joints in rng.uniform(kinematics.JOINT_LOW, kinematics.JOINT_HIGH, (50, 6)):
        state.qpos[:6] = joints
        mujoco.mj_kinematics(model, state)
        pose = kinematics.forward(joints)
        assert pose.position == pytest.approx(state.site("gripper").xpos, abs=1e-9)
        assert pose.rotation.ravel() == pytest.approx(state.site("gripper").xmat, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(joints=joints_within_limits)
def test_the_jacobian_is_the_slope_of_the_pose(joints):
    slope, step = kinematics.jacobian(joints), 1e-6
    here = kinematics.forward(joints)
    for index in range(6):
        there = kinematics.forward(joints + step * np.eye(6)[index])
        assert (there.position - here.position) / step == pytest.approx(slope[:3, index], abs=1e-5)
        turn = there.rotation @ here.rotation.T
        vector = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
        assert vector / step == pytest.approx(slope[3:, index], abs=1e-5)


@pytest.mark.parametrize("task_id", sorted(TASKS))
def test_every_place_in_a_task_box_can_be_reached_with_the_gripper_down(task_id):
    task = TASKS[task_id]
    grid = (np.linspace(low, high, 4) for low, high in zip(task.box_low, task.box_high, strict=True))
    for place in itertools.product(*grid):
        solution = kinematics.inverse(Pose(np.array(place), DEFAULT_ROTATION), np.array(NEAR_HOME))
        assert solution.ok, f"{place} is out of reach by {solution.position_error} m"
        reached = kinematics.forward(solution.joints)
        assert np.linalg.norm(reached.position - place) <= kinematics.POSITION_TOLERANCE
        assert reached.rotation == pytest.approx(DEFAULT_ROTATION, abs=2e-3)


@settings(max_examples=60, deadline=None)
@given(
    position=arrays(np.float64, 3, elements=st.floats(-2.0, 2.0)),
    start=joints_within_limits,
)
def test_whatever_is_asked_for_the_joints_stay_within_their_limits(position, start):
    solution = kinematics.inverse(Pose(position, DEFAULT_ROTATION), start)
    assert (solution.joints >= kinematics.JOINT_LOW).all()
    assert (solution.joints <= kinematics.JOINT_HIGH).all()
    assert np.isfinite(solution.joints).all()


@pytest.mark.parametrize("place", [[0.9, 0.0, 0.1], [0.3, 0.0, 1.2], [0.3, 0.0, -0.5]])
def test_a_pose_out_of_reach_is_refused_and_says_by_how_much(place):
    solution = kinematics.inverse(Pose(np.array(place), DEFAULT_ROTATION), np.array(NEAR_HOME))
    assert not solution.ok
    assert solution.position_error > 0.05
    missing = np.linalg.norm(kinematics.forward(solution.joints).position - place)
    assert missing == pytest.approx(solution.position_error, abs=0.05)


def test_a_short_step_of_the_target_is_a_short_step_of_the_joints():
    joints = kinematics.inverse(Pose(np.array([0.3, 0.0, 0.1]), DEFAULT_ROTATION), np.array(NEAR_HOME)).joints
    for direction in np.eye(3):
        moved = Pose(np.array([0.3, 0.0, 0.1]) + 0.01 * direction, DEFAULT_ROTATION)
        after = kinematics.inverse(moved, joints)
        assert after.ok
        assert np.abs(after.joints - joints).max() < 0.12


def test_a_turned_gripper_is_solved_for_too():
    yaw = 0.4
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    wanted = Pose(np.array([0.3, 0.05, 0.1]), turn @ DEFAULT_ROTATION)
    solution = kinematics.inverse(wanted, np.array(NEAR_HOME))
    assert solution.ok
    assert kinematics.forward(solution.joints).rotation == pytest.approx(wanted.rotation, abs=2e-3)


def test_a_pose_that_is_already_held_needs_no_motion():
    here = kinematics.forward(np.array(NEAR_HOME))
    assert kinematics.inverse(here, np.array(NEAR_HOME)).joints == pytest.approx(NEAR_HOME, abs=1e-12)


AUTOEVAL_BOXES = {  # metres, of the real cells
    "drawer": ((0.1260, -0.1645, 0.0216), (0.3636, 0.0770, 0.1637)),
    "sink": ((0.1998, -0.0985, 0.0871), (0.3647, 0.1950, 0.2340)),
    "cloth": ((0.1620, -0.1477, 0.0204), (0.4013, 0.2674, 0.1787)),
}
BOXES = AUTOEVAL_BOXES | {name: (task.box_low, task.box_high) for name, task in TASKS.items()}


def joints_at(place, *, rpy=(0.0, 0.0, 0.0)):
    """Joints that hold the gripper at a place, turned by rpy from straight down."""
    pose = Pose(np.array(place), rotation_of_euler(rpy) @ DEFAULT_ROTATION)
    joints = WIDOWX.inverse(pose, np.array(NEAR_HOME))
    assert joints is not None
    return joints


@pytest.mark.parametrize("yaw", [0.0, 0.6, -0.6])
@pytest.mark.parametrize("name", sorted(BOXES))
def test_no_place_that_a_task_needs_is_kept_out_with_the_gripper_down(name, yaw):
    grid = (np.linspace(low, high, 3) for low, high in zip(*BOXES[name], strict=True))
    poses = [
        Pose(np.array(p), rotation_of_euler((0, 0, yaw)) @ DEFAULT_ROTATION) for p in itertools.product(*grid)
    ]
    found = [WIDOWX.inverse(pose, np.array(NEAR_HOME)) for pose in poses]
    reached = [joints for joints in found if joints is not None]
    assert len(reached) >= 25  # of 27: the far corners of the cloth's box are beyond the arm
    assert not any(WIDOWX.collides(joints) for joints in reached)


@pytest.mark.parametrize(
    "joints",
    [
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        NEAR_HOME,
        [-0.2601, -0.1288, 0.0446, -0.0065, 1.7033, -0.2698],
        [-0.1319, -0.7624, 0.4449, -0.0199, 1.7564, -0.1595],
    ],
    ids=["maker's home", "table", "sink", "bridge neutral"],
)
def test_the_postures_that_labs_use_are_free(joints):
    assert not WIDOWX.collides(np.array(joints))


@pytest.mark.parametrize(
    ("place", "rpy", "free"),
    [
        ((0.3, 0.0, 0.014), (0, 0, 0), True),  # the fingertips are 12 mm below the gripper's point
        ((0.3, 0.0, 0.010), (0, 0, 0), False),
        ((0.3, 0.0, 0.020), (0.3, 0, 0), False),  # rolled, one opened finger is lower
        ((0.3, 0.0, 0.040), (0.3, 0, 0), True),
        ((0.16, 0.0, 0.05), (0, 0.4, 0), True),
        ((0.07, 0.0, 0.10), (0, 0.9, 0), False),  # fingertips pointing back, into the base
    ],
)
def test_fingertips_keep_out_of_the_table_and_of_the_base(place, rpy, free):
    assert WIDOWX.collides(joints_at(place, rpy=rpy)) is not free


def test_the_folded_arm_that_sleeps_lies_on_its_base():
    assert WIDOWX.collides(np.array([0.0, -1.80, 1.55, 0.0, 0.8, 0.0]))


def test_the_gripper_keeps_out_of_the_upper_arm():
    """Elbow bent up and wrist folded back, high above table and base: only the arm itself is in the way."""
    folded = np.array([0.0, 0.0, 1.35, 0.0, 2.1, 0.0])
    assert not WidowXArm(table_z=-2.0).collides(np.array([0.0, 0.0, -1.0, 0.0, 1.5, 0.0]))
    assert WidowXArm(table_z=-2.0).collides(folded)


def test_a_lower_table_leaves_more_room_and_a_higher_one_less():
    low = joints_at((0.3, 0.0, -0.03))
    assert WIDOWX.collides(low)
    assert not WidowXArm(table_z=-0.05).collides(low)
    assert WidowXArm(table_z=0.05).collides(joints_at((0.3, 0.0, 0.05)))


def test_the_elbow_keeps_out_of_the_table_too():
    leaning_back = np.array([0.0, -1.85, -0.5, 0.0, 0.0, 0.0])
    assert not WidowXArm(table_z=-2.0).collides(leaning_back)
    assert WidowXArm(table_z=0.07).collides(leaning_back)


@settings(max_examples=40, deadline=None)
@given(joints=joints_within_limits)
def test_turning_the_waist_changes_nothing_about_what_the_arm_touches(joints):
    """Table, base and upper arm look the same from every side."""
    turned = joints.copy()
    turned[0] = 0.0
    assert WIDOWX.collides(joints) == WIDOWX.collides(turned)


def test_as_an_arm_model_the_chain_answers_as_the_functions_do():
    here = np.array(NEAR_HOME)
    pose = WIDOWX.forward(here)
    np.testing.assert_array_equal(pose.position, kinematics.forward(here).position)
    near = Pose(pose.position + np.array([0.01, 0.0, 0.0]), pose.rotation)
    np.testing.assert_array_equal(WIDOWX.inverse(near, here), kinematics.inverse(near, here).joints)
    assert WIDOWX.inverse(Pose(np.array([0.9, 0.0, 0.1]), DEFAULT_ROTATION), here) is None
    assert (WIDOWX.joint_low < WIDOWX.joint_high).all()


def test_a_target_one_step_away_is_found_in_few_iterations_or_not_at_all():
    """The arm model gives up sooner than the search for a home does, and loses nothing by it."""
    rng, joints = np.random.default_rng(0), np.array(NEAR_HOME)
    found = 0
    for _ in range(80):
        here = kinematics.forward(joints)
        turn = rotation_of_euler(rng.uniform(-0.15, 0.15, 3))
        there = Pose(here.position + rng.uniform(-0.05, 0.05, 3), turn @ here.rotation)
        patient, quick = kinematics.inverse(there, joints), WIDOWX.inverse(there, joints)
        assert patient.ok is (quick is not None)
        if quick is not None:
            np.testing.assert_array_equal(quick, patient.joints)
            joints, found = quick, found + 1
    assert 40 < found < 80
