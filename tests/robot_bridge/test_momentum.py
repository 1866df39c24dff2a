"""What an arm carries over from one step to the next: along its way only, and only from where it ended."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.conventions import DEFAULT_ROTATION, Pose, rotation_of_euler
from robot_bridge.momentum import Momentum

HERE = Pose(np.array([0.25, 0.0, 0.15]), DEFAULT_ROTATION)
THERE = Pose(np.array([0.28, 0.0, 0.15]), DEFAULT_ROTATION)
AHEAD, ASIDE, BACK = np.array([1.0, 0, 0]), np.array([0, 2.0, 0]), np.array([-0.5, 0, 0])

ways = st.tuples(*[st.floats(-0.1, 0.1)] * 3).map(np.array)


def moving(turned: np.ndarray | None = None) -> Momentum:
    made = Momentum(gain_m=0.01, gain_rad=0.1)
    made.took(HERE, THERE, turned)
    return made


@pytest.mark.parametrize(
    ("way", "metres"),
    [
        (AHEAD, 0.04),  # three centimetres carried over, one gained
        (ASIDE, 0.01),
        (BACK, 0.01),  # a way back begins from rest
        (np.array([1.0, 1.0, 0.0]), 0.03 / np.sqrt(2) + 0.01),
        (np.zeros(3), 0.01),
    ],
    ids=["ahead", "aside", "back", "across", "nowhere"],
)
def test_a_step_may_be_as_long_as_what_is_left_of_the_last_one_and_a_gain(way, metres):
    assert moving().metres(THERE, way) == pytest.approx(metres)


def test_joints_carry_over_each_for_itself_and_in_its_own_direction():
    made = moving(np.array([0.3, -0.2, 0.0]))
    np.testing.assert_allclose(made.radians(THERE, np.array([0.5, -0.1, 1.0])), [0.4, 0.3, 0.1])
    np.testing.assert_allclose(made.radians(THERE, np.array([-0.5, 0.1, -1.0])), [0.1, 0.1, 0.1])


def test_joints_that_nobody_knew_carry_over_nothing():
    np.testing.assert_allclose(moving().radians(THERE, np.ones(6)), np.full(6, 0.1))


@pytest.mark.parametrize(
    "here",
    [HERE, Pose(THERE.position, rotation_of_euler((0, 0, 0.1)) @ DEFAULT_ROTATION)],
    ids=["before", "turned"],
)
def test_an_arm_that_is_elsewhere_than_its_last_step_led_is_at_rest(here):
    made = moving(np.full(6, 0.3))
    assert made.metres(here, AHEAD) == pytest.approx(0.01)
    np.testing.assert_allclose(made.radians(here, np.ones(6)), np.full(6, 0.1))


def test_an_arm_that_stood_has_nothing_left():
    made = moving(np.full(6, 0.3))
    made.rest()
    assert made.metres(THERE, AHEAD) == pytest.approx(0.01)
    np.testing.assert_allclose(made.radians(THERE, np.ones(6)), np.full(6, 0.1))


@given(ways, ways)
def test_nothing_is_carried_over_that_was_not_there(last, way):
    made = Momentum(gain_m=0.01, gain_rad=0.1)
    end = Pose(HERE.position + last, DEFAULT_ROTATION)
    made.took(HERE, end, None)
    assert 0.01 <= made.metres(end, way) <= 0.01 + np.linalg.norm(last) + 1e-12
