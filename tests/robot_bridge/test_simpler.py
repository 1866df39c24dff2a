"""SIMPLER's convention: quaternions, rotation vectors, a gripper of -1 and +1; and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.conventions import (
    DEFAULT_ROTATION,
    Pose,
    compose_target,
    pose_of_vector,
    rotation_of_euler,
    state_of,
)
from robot_bridge.errors import BadAction, BadArray
from robot_bridge.simpler import (
    bridge_action_of_simpler,
    bridge_state_of_simpler,
    compose_simpler,
    pose_of_simpler,
    simpler_action_of_bridge,
    simpler_state,
    simpler_state_of_bridge,
)
from robot_bridge.turns import angle_between

HALF = math.sqrt(0.5)
DOWN = Pose(np.array([0.3, 0.1, 0.2]), DEFAULT_ROTATION)

places = st.tuples(st.floats(0.05, 0.5), st.floats(-0.3, 0.3), st.floats(0.0, 0.4))
turns = st.tuples(*[st.floats(-math.pi, math.pi)] * 3)
leans = st.tuples(st.floats(-math.pi, math.pi), st.floats(-1.4, 1.4), st.floats(-math.pi, math.pi))
small = st.tuples(*[st.floats(-0.5, 0.5)] * 3)


@pytest.mark.parametrize(
    ("rotation", "quaternion"),
    [
        (np.eye(3), [1, 0, 0, 0]),
        (DEFAULT_ROTATION, [HALF, 0, HALF, 0]),  # a quarter turn about y
        (rotation_of_euler((math.pi, 0, 0)), [0, 1, 0, 0]),
        (rotation_of_euler((0, 0, 0.2)), [math.cos(0.1), 0, 0, math.sin(0.1)]),
    ],
)
def test_the_state_holds_the_quaternion_of_the_rotation_w_first(rotation, quaternion):
    state = simpler_state(Pose(DOWN.position, rotation), 0.026)
    assert (state.shape, state.dtype) == ((8,), np.float32)
    np.testing.assert_allclose(state, [0.3, 0.1, 0.2, *quaternion, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("finger", "theirs"), [(0.015, 0.0), (0.037, 1.0), (0.026, 0.5), (0.01, 0.0), (0.05, 1.0)]
)
def test_the_gripper_reads_the_range_of_its_joint(finger, theirs):
    state = simpler_state(DOWN, finger)
    assert state[7] == pytest.approx(theirs, abs=1e-6)
    if 0.015 <= finger <= 0.037:
        assert bridge_state_of_simpler(state)[6] == pytest.approx(state_of(DOWN, finger)[6], abs=1e-6)


def test_a_gripper_that_points_down_has_bridge_angles_zero():
    np.testing.assert_allclose(bridge_state_of_simpler(simpler_state(DOWN, 0.035))[3:6], 0.0, atol=1e-6)


@given(places, leans, st.floats(0.2, 1.08))
def test_our_state_comes_back_from_theirs(place, rpy, opening):
    ours = np.array([*place, *rpy, opening], dtype=np.float32)
    back = bridge_state_of_simpler(simpler_state_of_bridge(ours))
    np.testing.assert_allclose(back[[0, 1, 2, 6]], ours[[0, 1, 2, 6]], atol=1e-6)
    assert angle_between(pose_of_vector(ours).rotation, pose_of_vector(back).rotation) < 1e-6


@given(places, turns, st.floats(0.0, 1.0))
def test_their_state_comes_back_from_ours(place, rpy, opening):
    pose = Pose(np.array(place), rotation_of_euler(rpy))
    theirs = simpler_state(pose, 0.015 + 0.022 * opening)
    back = simpler_state_of_bridge(bridge_state_of_simpler(theirs))
    np.testing.assert_allclose(back[[0, 1, 2, 7]], theirs[[0, 1, 2, 7]], atol=2e-6)
    assert abs(back[3:7] @ theirs[3:7]) == pytest.approx(1.0, abs=1e-6)  # q and -q are one rotation


@given(turns)
def test_a_quaternion_and_its_negative_are_the_same_pose(rpy):
    state = simpler_state(Pose(DOWN.position, rotation_of_euler(rpy)), 0.03)
    other = state.copy()
    other[3:7] *= -1
    assert angle_between(pose_of_simpler(state).rotation, pose_of_simpler(other).rotation) < 1e-6
    assert angle_between(pose_of_simpler(state).rotation, rotation_of_euler(rpy)) < 1e-6


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([0.01, -0.02, 0.03, 0, 0, 0.2, 1.0], [0.01, -0.02, 0.03, 0, 0, 0.2, 1.0]),
        ([0, 0, 0, -0.3, 0, 0, 0.0], [0, 0, 0, -0.3, 0, 0, -1.0]),
        ([0, 0, 0, 0, 0, 0, 0.5], [0, 0, 0, 0, 0, 0, -1.0]),  # open above 0.5
        (
            [0, 0, 0, math.pi / 2, 0, math.pi / 2, 1],
            [0, 0, 0, *np.array([1, 1, 1]) * 2.0943951 * 0.57735027, 1],
        ),
    ],
)
def test_turns_become_rotation_vectors_and_grippers_signs(ours, theirs):
    np.testing.assert_allclose(simpler_action_of_bridge(ours), theirs, atol=1e-6)


@given(small, small, st.sampled_from([0.0, 1.0]))
def test_our_action_comes_back_from_theirs(move, turn, grip):
    ours = np.array([*move, *turn, grip], dtype=np.float32)
    np.testing.assert_allclose(bridge_action_of_simpler(simpler_action_of_bridge(ours)), ours, atol=1e-6)


@given(small, small, st.sampled_from([-1.0, 1.0]))
def test_their_action_comes_back_from_ours(move, vector, grip):
    theirs = np.array([*move, *vector, grip], dtype=np.float32)
    np.testing.assert_allclose(simpler_action_of_bridge(bridge_action_of_simpler(theirs)), theirs, atol=1e-6)


@given(turns, small, small)
def test_both_conventions_compose_the_same_target(at, move, turn):
    """Another spelling of the same algebra: that is what `ee_align2` means."""
    here = Pose(DOWN.position, rotation_of_euler(at))
    ours = np.array([*move, *turn, 1.0], dtype=np.float32)
    there = compose_simpler(here, simpler_action_of_bridge(ours))
    wanted = compose_target(here, ours)
    np.testing.assert_allclose(there.position, wanted.position, atol=1e-7)
    assert angle_between(there.rotation, wanted.rotation) < 1e-6


@pytest.mark.parametrize(
    ("state", "thing"),
    [
        ([0.0] * 7, "simpler state"),
        ([math.nan] * 8, "simpler state"),
        ("words", "simpler state"),
        ([0, 0, 0, 0, 0, 0, 0, 0], "quaternion"),
        ([0, 0, 0, 1, 1, 0, 0, 0], "quaternion"),
    ],
)
def test_a_state_that_is_none_is_refused(state, thing):
    for read in (pose_of_simpler, bridge_state_of_simpler):
        with pytest.raises(BadArray) as refused:
            read(state)
        assert refused.value.parts["thing"] == thing


def test_our_state_must_be_one_too():
    with pytest.raises(BadArray):
        simpler_state_of_bridge([0.0] * 8)


@pytest.mark.parametrize("wrong", [[math.nan] * 7, [0.0] * 6, [1e39] * 7])
def test_actions_that_are_none_are_refused(wrong):
    for convert in (simpler_action_of_bridge, bridge_action_of_simpler, lambda a: compose_simpler(DOWN, a)):
        with pytest.raises(BadAction):
            convert(wrong)
