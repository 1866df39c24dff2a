"""What actions and states mean: numbers worked by hand, and conversions that undo each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robot_bridge.conventions import (
    DEFAULT_ROTATION,
    GRIPPER_STATE_MAX,
    NULL_WORLD_MODEL_ACTION,
    Pose,
    achieved_actions,
    checked_action,
    compose_target,
    delta_between,
    euler_of_rotation,
    from_world_model_action,
    pose_of_vector,
    pose_vector,
    rotation_angle,
    rotation_of_euler,
    state_of,
    to_world_model_action,
)
from robot_bridge.errors import BadAction, BadArray

HALF_PI = math.pi / 2
DOWN = Pose(np.array([0.3, 0.1, 0.2]), DEFAULT_ROTATION)

angles = st.floats(-1.4, 1.4)
small = st.floats(-0.25, 0.25)
rotations = st.tuples(st.floats(-math.pi, math.pi), angles, st.floats(-math.pi, math.pi))


@pytest.mark.parametrize(
    ("rpy", "moved", "to"),
    [
        ((HALF_PI, 0, 0), (0, 1, 0), (0, 0, 1)),  # roll turns y into z
        ((0, HALF_PI, 0), (0, 0, 1), (1, 0, 0)),  # pitch turns z into x
        ((0, 0, HALF_PI), (1, 0, 0), (0, 1, 0)),  # yaw turns x into y
        ((HALF_PI, 0, HALF_PI), (0, 1, 0), (0, 0, 1)),  # roll comes first, about the fixed x axis
        ((0, HALF_PI, HALF_PI), (0, 0, 1), (0, 1, 0)),  # then pitch, then yaw
    ],
)
def test_euler_angles_turn_about_the_fixed_axes_x_then_y_then_z(rpy, moved, to):
    np.testing.assert_allclose(rotation_of_euler(rpy) @ np.array(moved), to, atol=1e-12)


@given(rotations)
def test_euler_angles_come_back_from_the_matrix_they_made(rpy):
    rotation = rotation_of_euler(rpy)
    again = rotation_of_euler(euler_of_rotation(rotation))
    np.testing.assert_allclose(again, rotation, atol=1e-9)


@pytest.mark.parametrize("pitch", [HALF_PI, -HALF_PI])
@pytest.mark.parametrize(("roll", "yaw"), [(0.3, 0.0), (0.0, 0.4), (1.0, -0.5), (-2.0, 1.5)])
def test_straight_up_and_down_the_same_rotation_comes_back_with_yaw_zero(pitch, roll, yaw):
    rotation = rotation_of_euler((roll, pitch, yaw))
    rpy = euler_of_rotation(rotation)
    assert rpy[2] == 0.0
    np.testing.assert_allclose(rotation_of_euler(rpy), rotation, atol=1e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.1, 1.0, 3.0, math.pi])
def test_the_angle_of_a_rotation_is_measured_at_every_size(angle):
    assert rotation_angle(rotation_of_euler((0, 0, angle))) == pytest.approx(angle, abs=1e-12)


def test_a_gripper_that_points_down_has_state_angles_zero():
    state = state_of(DOWN, finger=0.035)
    assert state.dtype == np.float32
    np.testing.assert_allclose(state, [0.3, 0.1, 0.2, 0, 0, 0, 1], atol=1e-7)


@pytest.mark.parametrize(
    ("finger", "reading"),
    [(0.015, 0.2), (0.037, 1.08), (0.010, 0.0), (0.005, 0.0), (0.5, GRIPPER_STATE_MAX)],
)
def test_the_finger_position_is_read_as_the_bridge_dataset_reads_it(finger, reading):
    assert state_of(DOWN, finger)[6] == pytest.approx(reading, abs=1e-6)


def test_the_reported_reset_pose_of_autoeval_is_nearly_straight_down():
    """The other convention's Euler(R) of a downward gripper is singular; ours of the same R is near zero."""
    rotation = rotation_of_euler((-3.089, 1.542, -3.089))
    rpy = euler_of_rotation(rotation @ DEFAULT_ROTATION.T)
    np.testing.assert_allclose(rpy, [-0.0015, 0.029, 0.0001], atol=2e-3)


def test_translation_is_along_the_world_axes_however_the_gripper_is_turned():
    turned = Pose(DOWN.position, rotation_of_euler((0.3, -0.2, 1.0)) @ DEFAULT_ROTATION)
    target = compose_target(turned, [0.01, -0.02, 0.03, 0, 0, 0, 1])
    np.testing.assert_allclose(target.position, DOWN.position + np.array([0.01, -0.02, 0.03]), atol=1e-8)
    np.testing.assert_allclose(target.rotation, turned.rotation, atol=1e-12)


def test_rotation_turns_about_the_world_axes_and_leaves_the_gripper_where_it_is():
    turned = Pose(DOWN.position, rotation_of_euler((0, 0, HALF_PI)) @ DEFAULT_ROTATION)
    target = compose_target(turned, [0, 0, 0, 0.1, 0, 0, 1])
    np.testing.assert_array_equal(target.position, turned.position)
    np.testing.assert_allclose(target.rotation, rotation_of_euler((0.1, 0, 0)) @ turned.rotation, atol=1e-7)


def test_two_steps_add_up_on_the_target_and_not_on_anything_measured():
    once = compose_target(DOWN, [0.01, 0, 0, 0, 0, 0.1, 1])
    twice = compose_target(once, [0.01, 0, 0, 0, 0, 0.1, 1])
    np.testing.assert_allclose(pose_vector(twice, 1.0), [0.32, 0.1, 0.2, 0, 0, 0.2, 1], atol=1e-6)


def test_a_thousand_composed_turns_still_make_a_rotation():
    pose = DOWN
    for _ in range(1000):
        pose = compose_target(pose, [0, 0, 0, 0.07, -0.11, 0.13, 0])
    assert np.abs(pose.rotation @ pose.rotation.T - np.eye(3)).max() < 1e-12


@given(st.tuples(*[st.floats(-0.05, 0.05)] * 3, small, small, small), rotations)
def test_the_delta_between_two_targets_is_the_action_that_made_the_second(move, rpy):
    start = Pose(np.array([0.2, 0.0, 0.1]), rotation_of_euler(rpy) @ DEFAULT_ROTATION)
    target = compose_target(start, [*move, 1.0])
    np.testing.assert_allclose(delta_between(start, target), np.float32(move), atol=1e-6)


@given(rotations)
def test_a_pose_comes_back_from_its_vector(rpy):
    pose = Pose(np.array([0.25, -0.125, 0.5]), rotation_of_euler(rpy) @ DEFAULT_ROTATION)
    again = pose_of_vector(pose_vector(pose, 0.5))
    np.testing.assert_array_equal(again.position, pose.position)
    np.testing.assert_allclose(again.rotation, pose.rotation, atol=1e-6)


@pytest.mark.parametrize(
    ("position", "rotation"),
    [
        ([0.0, 0.0], np.eye(3)),
        ([0.0, 0.0, math.nan], np.eye(3)),
        ([0.0, 0.0, 0.0], np.eye(2)),
        ([0.0, 0.0, 0.0], np.eye(3) * 1.1),
        ([0.0, 0.0, 0.0], np.diag([1.0, 1.0, -1.0])),  # a mirror
        ([0.0, 0.0, 0.0], np.full((3, 3), math.inf)),
    ],
)
def test_what_is_no_place_and_rotation_is_no_pose(position, rotation):
    with pytest.raises(BadArray):
        Pose(np.array(position), rotation)


def test_a_pose_does_not_change_with_the_arrays_it_was_made_of():
    position = np.array([0.1, 0.2, 0.3])
    pose = Pose(position, DEFAULT_ROTATION)
    position[:] = 9
    np.testing.assert_array_equal(pose.position, [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="read-only"):
        pose.position[0] = 1.0


@pytest.mark.parametrize(
    "action",
    [
        [0.0] * 6,
        [0.0] * 8,
        [[0.0] * 7],
        [0.0, 0.0, math.nan, 0.0, 0.0, 0.0, 1.0],
        [0.0, 0.0, math.inf, 0.0, 0.0, 0.0, 1.0],
        [1e300, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],  # finite, but not in float32
        "forward",
        [None] * 7,
        [],
    ],
)
def test_what_is_not_seven_finite_numbers_is_no_action(action):
    with pytest.raises(BadAction) as refused:
        checked_action(action)
    assert refused.value.code == "bad_action"


def test_the_world_model_gets_the_published_scaling():
    action = [0.01, -0.02, 0.03, 0.1, -0.2, 0.05, 1.0]
    expected = [0.35, -0.7, 1.05, 0.56, -1.12, 0.28, -1.0, 0, 0, 0]
    np.testing.assert_allclose(to_world_model_action(action), expected, atol=1e-6)


def test_the_world_models_range_is_the_bridge_box_mapped_to_plus_minus_the_training_clip():
    """(a + 0.05) / 0.10 * 3.5 - 1.75 and (a + 0.25) / 0.5 * 2.8 - 1.4, clipped 0.01 inside their ends."""
    ends = to_world_model_action([[0.05] * 3 + [0.25] * 3 + [0.0], [-0.05] * 3 + [-0.25] * 3 + [1.0]])
    np.testing.assert_allclose(ends[0, :7], [1.74] * 3 + [1.39] * 3 + [1.0], atol=1e-6)
    np.testing.assert_allclose(ends[1, :7], [-1.74] * 3 + [-1.39] * 3 + [-1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("gripper", "number"), [(1.0, -1), (0.51, -1), (0.5, 1), (0.0, 1), (-3.0, 1), (9.0, -1)]
)
def test_the_world_model_sees_a_gripper_that_is_open_or_closed(gripper, number):
    assert to_world_model_action([0, 0, 0, 0, 0, 0, gripper])[6] == number


inside = st.tuples(
    *[st.floats(-0.0497, 0.0497)] * 3,
    *[st.floats(-0.248, 0.248)] * 3,
    st.sampled_from([0.0, 1.0]),
)


@given(st.lists(inside, min_size=1, max_size=5))
def test_inside_the_clip_range_an_action_comes_back_from_the_world_models_form(actions):
    original = np.array(actions, dtype=np.float32)
    there = to_world_model_action(original)
    assert there.shape == (len(actions), 10)
    assert there.dtype == np.float32
    np.testing.assert_allclose(from_world_model_action(there), original, rtol=2e-7, atol=1e-12)
    np.testing.assert_array_equal(to_world_model_action(from_world_model_action(there))[:, 6:], there[:, 6:])


@given(hnp.arrays(np.float32, (2, 3, 7), elements=st.floats(-1e6, 1e6, width=32)))
def test_any_leading_axes_are_kept_and_nothing_leaves_the_clip_range(actions):
    there = to_world_model_action(actions)
    assert there.shape == (2, 3, 10)
    assert np.abs(there[..., :3]).max() <= np.float32(1.74)
    assert np.abs(there[..., 3:6]).max() <= np.float32(1.39)
    assert set(np.unique(there[..., 6])) <= {-1.0, 1.0}
    assert not there[..., 7:].any()


def test_the_null_action_is_a_flag_that_no_real_action_carries():
    np.testing.assert_array_equal(NULL_WORLD_MODEL_ACTION, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    assert to_world_model_action(np.zeros(7))[9] == 0
    with pytest.raises(ValueError, match="read-only"):
        NULL_WORLD_MODEL_ACTION[0] = 1.0


@pytest.mark.parametrize("convert", [to_world_model_action, from_world_model_action])
@pytest.mark.parametrize(
    "actions", [np.zeros((3, 8)), np.float32(1.0), np.full((2, 7), np.nan), np.full(10, np.inf)]
)
def test_arrays_that_are_no_actions_are_not_converted(convert, actions):
    with pytest.raises(BadAction):
        convert(actions)


@pytest.mark.parametrize("off", [1e-3, 3.5e-6, 1e-6, -3.5e-6, -1e-3])
@pytest.mark.parametrize("end", [HALF_PI, -HALF_PI])
def test_angles_close_to_a_quarter_turn_keep_which_side_of_it_they_are_on(end, off):
    rotation = rotation_of_euler((0.3, end + off, -0.2))
    again = rotation_of_euler(euler_of_rotation(rotation))
    np.testing.assert_allclose(again, rotation, atol=1e-7)


def test_achieved_actions_lead_from_every_measured_state_to_the_next():
    pose = Pose(np.array([0.25, 0.0, 0.15]), DEFAULT_ROTATION)
    moves = np.array([[0.01, -0.02, 0.03, 0.1, -0.05, 0.2, 1.0], [0.0, 0.02, 0.0, 0.0, 0.0, -0.1, 0.0]])
    poses = [pose]
    for move in moves:
        poses.append(compose_target(poses[-1], move))
    states = [pose_vector(at, gripper) for at, gripper in zip(poses, (0.5, 1.0, 0.0), strict=True)]
    np.testing.assert_allclose(achieved_actions(states), moves, atol=1e-6)


@pytest.mark.parametrize("states", [np.zeros((1, 7)), np.zeros((3, 6)), np.full((2, 7), np.nan)])
def test_states_that_show_no_motion_at_all_are_refused(states):
    with pytest.raises(BadArray):
        achieved_actions(states)
