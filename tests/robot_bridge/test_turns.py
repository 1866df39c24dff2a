"""Turns: axis and angle at every size, a part of a way, and the cone about straight down."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.conventions import DEFAULT_ROTATION, Pose, rotation_angle, rotation_of_euler
from robot_bridge.turns import (
    angle_between,
    axis_and_angle,
    partway,
    rotation_about,
    shortened,
    tilt_of,
    within_cone,
)

angles = st.floats(-math.pi, math.pi)
rpys = st.tuples(angles, angles, angles)
shares = st.floats(0.0, 1.0)
coordinates = st.tuples(*[st.floats(-1.0, 1.0)] * 3)


@given(rpys)
def test_axis_and_angle_make_the_rotation_they_came_from(rpy):
    rotation = rotation_of_euler(rpy)
    axis, angle = axis_and_angle(rotation)
    assert np.linalg.norm(axis) == pytest.approx(1.0, abs=1e-9)
    assert 0.0 <= angle <= math.pi
    np.testing.assert_allclose(rotation_about(axis, angle), rotation, atol=1e-7)


@pytest.mark.parametrize("angle", [1e-8, 1e-5, 0.1, 2.9, 3.0, 3.1, math.pi - 1e-7, math.pi])
@pytest.mark.parametrize("axis", [(1, 0, 0), (0, -1, 0), (0.6, 0.0, -0.8), (1 / 3, -2 / 3, 2 / 3)])
def test_small_turns_and_half_turns_keep_their_axis(angle, axis):
    found, size = axis_and_angle(rotation_about(np.array(axis), angle))
    assert size == pytest.approx(angle, abs=1e-12)
    sign = 1.0 if angle < math.pi else np.sign(found @ np.array(axis))
    np.testing.assert_allclose(sign * found, axis, atol=1e-6)


def test_no_turn_has_an_axis_all_the_same():
    axis, angle = axis_and_angle(np.eye(3))
    assert (axis.tolist(), angle) == ([1.0, 0.0, 0.0], 0.0)


def test_a_turn_within_the_limit_comes_back_as_it_was():
    rpy = np.array([0.1, -0.05, 0.2])
    assert shortened(rpy, 0.25)[0] is rpy
    assert shortened(rpy, 0.25)[1] is False


@given(rpys, st.floats(1e-4, 0.5))
def test_a_turn_beyond_the_limit_is_cut_to_it_about_its_own_axis(rpy, limit):
    short, cut = shortened(np.array(rpy), limit)
    whole = rotation_of_euler(rpy)
    assert cut == (rotation_angle(whole) > limit + 1e-6)
    if cut:
        assert rotation_angle(rotation_of_euler(short)) == pytest.approx(limit, abs=1e-9)
        left = angle_between(rotation_of_euler(short), whole)
        assert left == pytest.approx(rotation_angle(whole) - limit, abs=1e-5)


@given(coordinates, coordinates, rpys, rpys, shares)
def test_a_part_of_the_way_is_that_part_of_its_length_and_of_its_turn(start, goal, first, last, share):
    here = Pose(np.array(start), rotation_of_euler(first))
    there = Pose(np.array(goal), rotation_of_euler(last))
    between = partway(here, there, share)
    assert (between.position >= np.minimum(start, goal)).all()
    assert (between.position <= np.maximum(start, goal)).all()
    np.testing.assert_allclose(
        between.position - here.position, share * (there.position - here.position), atol=1e-12
    )
    whole = angle_between(here.rotation, there.rotation)
    assert angle_between(here.rotation, between.rotation) == pytest.approx(share * whole, abs=1e-6)
    assert angle_between(between.rotation, there.rotation) == pytest.approx((1 - share) * whole, abs=1e-6)


def test_the_ends_of_a_way_are_the_very_poses():
    here = Pose(np.zeros(3), DEFAULT_ROTATION)
    there = Pose(np.ones(3), rotation_of_euler((0.1, 0.2, 0.3)))
    assert partway(here, there, 0.0) is here
    assert partway(here, there, 1.0) is there


@pytest.mark.parametrize(
    ("turn", "tilt"),
    [
        ((0, 0, 0), 0.0),
        ((0, 0, 1.3), 0.0),  # turning about the vertical does not lean
        ((0.2, 0, 0), 0.2),
        ((0, -0.3, 0), 0.3),
        ((math.pi / 2, 0, 0), math.pi / 2),
        ((math.pi, 0, 0), math.pi),  # straight up
    ],
)
def test_the_tilt_is_the_angle_to_straight_down(turn, tilt):
    assert tilt_of(rotation_of_euler(turn) @ DEFAULT_ROTATION) == pytest.approx(tilt, abs=1e-9)


@given(rpys, rpys, st.floats(0.01, math.pi))
def test_no_turn_ends_further_out_of_the_cone_than_it_began(first, turn, tilt_max):
    start = rotation_of_euler(first)
    goal = rotation_of_euler(turn) @ start
    kept = within_cone(start, goal, tilt_max)
    assert tilt_of(kept) <= max(tilt_max, tilt_of(start)) + 2e-6
    assert angle_between(start, kept) <= angle_between(start, goal) + 1e-6


@given(rpys, rpys)
def test_the_widest_cone_lets_every_turn_pass(first, turn):
    start = rotation_of_euler(first)
    goal = rotation_of_euler(turn) @ start
    assert within_cone(start, goal, math.pi) is goal


def test_a_turn_out_of_the_cone_ends_at_its_edge_on_its_own_way():
    goal = rotation_of_euler((0.5, 0, 0)) @ DEFAULT_ROTATION
    kept = within_cone(DEFAULT_ROTATION, goal, 0.3)
    np.testing.assert_allclose(kept, rotation_of_euler((0.3, 0, 0)) @ DEFAULT_ROTATION, atol=1e-6)


def test_a_gripper_outside_the_cone_may_lean_back_but_not_further_out():
    outside = rotation_of_euler((0.6, 0, 0)) @ DEFAULT_ROTATION
    back = rotation_of_euler((0.5, 0, 0)) @ DEFAULT_ROTATION
    further = rotation_of_euler((0.7, 0, 0)) @ DEFAULT_ROTATION
    assert within_cone(outside, back, 0.3) is back
    np.testing.assert_allclose(within_cone(outside, further, 0.3), outside, atol=1e-6)
