"""The effort guard: when it begins and ends, and that it only ever leads back, by no more than was asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.conventions import DEFAULT_ROTATION, Pose, rotation_of_euler
from robot_bridge.effort import EffortGuard
from robot_bridge.turns import angle_between

QUIET = Pose(np.array([0.25, 0.0, 0.15]), DEFAULT_ROTATION)
PRESSING = Pose(np.array([0.25, 0.0, 0.10]), DEFAULT_ROTATION)

moves = st.tuples(*[st.floats(-0.05, 0.05)] * 3)
turns = st.tuples(*[st.floats(-0.2, 0.2)] * 3)


def amperes(peak: float, *, joint: int = 1, gripper: float = 0.0) -> np.ndarray:
    currents = np.full(7, 100.0, dtype=np.float32)
    currents[joint], currents[6] = peak, gripper
    return currents


def guard(*readings: float) -> EffortGuard:
    """A guard of 1000 mA that saw these peaks: the first at QUIET, the others while pressing."""
    made = EffortGuard(1000.0)
    for index, peak in enumerate(readings):
        made.read(amperes(peak), held=PRESSING if index else QUIET)
    return made


def moved(pose: Pose, xyz: tuple[float, ...], rpy: tuple[float, ...] = (0, 0, 0)) -> Pose:
    return Pose(pose.position + np.array(xyz), rotation_of_euler(rpy) @ pose.rotation)


@pytest.mark.parametrize(
    ("peaks", "overloaded"),
    [
        ([500.0], False),
        ([1000.0], False),  # the limit itself is allowed
        ([1000.1], True),
        ([-1000.1], True),  # either sign
        ([500.0, 1200.0, 900.0], True),  # not released before four fifths of the limit
        ([500.0, 1200.0, -900.0], True),
        ([500.0, 1200.0, 799.0], False),
        ([500.0, 900.0], False),  # and near the limit it does not begin either
        ([math.nan], True),
        ([math.inf], True),
    ],
)
def test_an_overload_begins_above_the_limit_and_ends_well_below_it(peaks, overloaded):
    assert guard(*peaks).overloaded is overloaded


@pytest.mark.parametrize("joint", range(6))
def test_every_arm_joint_is_guarded(joint):
    made = EffortGuard(1000.0)
    made.read(amperes(-1500.0, joint=joint), held=QUIET)
    assert made.overloaded


def test_the_gripper_may_press_as_it_likes():
    made = EffortGuard(1000.0)
    made.read(amperes(100.0, gripper=5000.0), held=QUIET)
    assert not made.overloaded


def test_an_arm_that_is_not_overloaded_gets_the_very_target():
    target = moved(PRESSING, (0.01, 0.0, -0.02))
    assert guard(500.0, 900.0).eased(PRESSING, target) is target


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ((0.0, 0.0, -0.02), (0.0, 0.0, 0.01)),  # pressing harder: half of it, the other way
        ((0.0, 0.0, 0.02), (0.0, 0.0, 0.02)),  # coming free: as asked
        ((0.0, 0.0, 0.08), (0.0, 0.0, 0.05)),  # no further than to where it was quiet
        ((0.03, -0.03, 0.0), (0.0, 0.0, 0.0)),  # sideways leads to no place that was quiet
        ((0.03, 0.0, -0.02), (0.0, 0.0, 0.01)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ],
)
def test_an_overloaded_arm_only_goes_back_the_way_it_came(asked, given):
    eased = guard(500.0, 1200.0).eased(PRESSING, moved(PRESSING, asked))
    np.testing.assert_allclose(eased.position - PRESSING.position, given, atol=1e-12)


def test_asking_to_come_free_never_presses_harder():
    """AutoEval's guard answers with minus half of whatever is asked, which would push down here."""
    eased = guard(500.0, 1200.0).eased(PRESSING, moved(PRESSING, (0.0, 0.0, 0.03)))
    assert eased.position[2] > PRESSING.position[2]


def test_an_arm_that_was_never_seen_quiet_stays():
    made = EffortGuard(1000.0)
    made.read(amperes(2000.0), held=PRESSING)
    assert made.eased(PRESSING, moved(PRESSING, (0.0, 0.0, 0.03))) is PRESSING


@given(moves, turns, moves, turns)
def test_what_is_eased_is_never_larger_than_what_was_asked_and_never_leads_away(at, lean, asked, turn):
    made = EffortGuard(1000.0)
    made.read(amperes(100.0), held=QUIET)
    here = moved(QUIET, at, lean)
    made.read(amperes(3000.0), held=here)
    eased = made.eased(here, moved(here, asked, turn))
    assert (np.abs(eased.position - here.position) <= np.abs(asked) + 1e-12).all()
    before, after = np.abs(here.position - QUIET.position), np.abs(eased.position - QUIET.position)
    assert (after <= before + 1e-12).all()
    turned = angle_between(here.rotation, eased.rotation)
    assert turned <= angle_between(np.eye(3), rotation_of_euler(turn)) + 1e-6
    back = angle_between(eased.rotation, QUIET.rotation)
    assert back <= angle_between(here.rotation, QUIET.rotation) + 1e-6


def test_a_new_episode_starts_without_an_overload():
    made = guard(500.0, 1200.0)
    made.clear()
    target = moved(PRESSING, (0.0, 0.0, -0.02))
    assert made.eased(PRESSING, target) is target


@given(st.floats(0.05, 1.0), st.lists(st.floats(0.0, 3000.0) | st.just(math.nan), max_size=20))
def test_a_guard_of_a_lower_limit_begins_no_later_and_ends_no_sooner(share, peaks):
    own, narrower = EffortGuard(1000.0), EffortGuard(share * 1000.0)
    for peak in peaks:
        for made in (own, narrower):
            made.read(amperes(peak), held=PRESSING)
        assert narrower.overloaded or not own.overloaded
