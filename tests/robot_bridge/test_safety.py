"""The safety pipeline: whatever is asked, the target stays in the box and within one step of the last one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_bridge.conventions import DEFAULT_ROTATION, Pose, compose_target, rotation_angle, rotation_of_euler
from robot_bridge.errors import BadAction
from robot_bridge.safety import (
    CLIPPED_BOX,
    CLIPPED_GRIPPER,
    CLIPPED_ROT,
    CLIPPED_XYZ,
    STAGES,
    Limits,
    SafetyPipeline,
    executed_action,
)

LIMITS = Limits(box_low=(0.1, -0.2, 0.05), box_high=(0.4, 0.2, 0.25))
INSIDE = Pose(np.array([0.25, 0.0, 0.15]), DEFAULT_ROTATION)

hostile = st.one_of(
    st.floats(-0.06, 0.06),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.0, -0.0, 1e-30, -1e-30, 3e38, -3e38, math.pi, -math.pi, math.pi / 2, 0.05, -0.05]),
)
hostile_actions = st.lists(st.tuples(*[hostile] * 7), min_size=1, max_size=12)


def pipeline(**limits: object) -> SafetyPipeline:
    return SafetyPipeline(Limits(**{"box_low": LIMITS.box_low, "box_high": LIMITS.box_high, **limits}))


def turn_between(first: Pose, second: Pose) -> float:
    return rotation_angle(second.rotation @ first.rotation.T)


@settings(max_examples=200)
@given(hostile_actions)
def test_no_sequence_of_actions_takes_the_target_out_of_the_box_or_further_than_one_step(actions):
    safe, target = pipeline(), INSIDE
    for action in actions:
        command = safe.apply(target, action)
        assert (command.target.position >= LIMITS.box_low).all()
        assert (command.target.position <= LIMITS.box_high).all()
        assert np.abs(command.target.position - target.position).max() <= 0.05 + 1e-8
        assert turn_between(target, command.target) <= 0.25 + 1e-5
        assert 0.0 <= command.gripper <= 1.0
        assert np.isfinite(command.executed).all()
        target = command.target


@given(st.tuples(*[st.floats(-0.049, 0.049)] * 3, *[st.floats(-0.14, 0.14)] * 3, st.floats(0.0, 1.0)))
def test_an_action_within_all_limits_is_executed_exactly_as_it_was_asked(action):
    safe = pipeline()
    command = safe.apply(INSIDE, action)
    assert command.flags == 0
    np.testing.assert_array_equal(command.executed, np.float32(action))
    np.testing.assert_array_equal(command.target.position, compose_target(INSIDE, action).position)
    np.testing.assert_array_equal(command.target.rotation, compose_target(INSIDE, action).rotation)
    assert safe.counts == dict.fromkeys(STAGES, 0)


@given(st.tuples(*[hostile] * 7))
def test_the_executed_action_is_the_one_that_leads_to_the_target_and_passes_unchanged(action):
    """What the record says was executed must be executable as it stands: a second pass changes nothing."""
    first = pipeline().apply(INSIDE, action)
    again = pipeline().apply(INSIDE, first.executed)
    assert again.flags & ~CLIPPED_BOX == 0
    np.testing.assert_allclose(again.target.position, first.target.position, atol=1e-7)
    np.testing.assert_allclose(again.target.rotation, first.target.rotation, atol=1e-5)


@pytest.mark.parametrize(
    ("action", "flags", "stage"),
    [
        ([0.05, 0, 0, 0, 0, 0, 1], 0, None),  # exactly the limit, as float32, is within it
        ([0.051, 0, 0, 0, 0, 0, 1], CLIPPED_XYZ, "xyz"),
        ([0, 0, -0.2, 0, 0, 0, 1], CLIPPED_XYZ, "xyz"),
        ([0, 0, 0, 0.25, 0, 0, 1], 0, None),
        ([0, 0, 0, 0.2, 0.2, 0, 1], CLIPPED_ROT, "rot"),  # each is small, together they are 0.28 rad
        ([0, 0, 0, 0, 0, 3.2, 1], CLIPPED_ROT, "rot"),
        ([0, 0, 0, 0, 0, 0, 1.01], CLIPPED_GRIPPER, "gripper"),
        ([0, 0, 0, 0, 0, 0, -1], CLIPPED_GRIPPER, "gripper"),
    ],
)
def test_each_stage_flags_and_counts_what_it_cut_and_only_that(action, flags, stage):
    safe = pipeline()
    assert safe.apply(INSIDE, action).flags == flags
    assert {name for name, count in safe.counts.items() if count} == ({stage} if stage else set())


def test_the_box_cuts_the_step_at_its_face_and_the_record_says_how_far_it_went():
    near = Pose(np.array([0.39, 0.0, 0.15]), DEFAULT_ROTATION)
    command = pipeline().apply(near, [0.04, 0.01, 0, 0, 0, 0, 1])
    assert command.flags == CLIPPED_BOX
    np.testing.assert_allclose(command.target.position, [0.40, 0.01, 0.15], atol=1e-8)
    np.testing.assert_allclose(command.executed, [0.01, 0.01, 0, 0, 0, 0, 1], atol=1e-7)


def test_two_cuts_of_one_action_are_both_counted():
    safe = pipeline()
    near = Pose(np.array([0.39, 0.0, 0.15]), DEFAULT_ROTATION)
    command = safe.apply(near, [0.5, 0, 0, 0, 0, 1.0, 7])
    assert command.flags == CLIPPED_XYZ | CLIPPED_BOX | CLIPPED_ROT | CLIPPED_GRIPPER
    assert safe.counts == dict.fromkeys(STAGES, 0) | {"xyz": 1, "rot": 1, "box": 1, "gripper": 1}


@pytest.mark.parametrize(
    "rpy", [(1.0, 0, 0), (0, -1.0, 0), (0.5, 0.5, -0.5), (math.pi, 0, 0), (0, 0, -math.pi)]
)
def test_a_rotation_that_is_too_large_is_shortened_about_its_own_axis(rpy):
    command = pipeline().apply(INSIDE, [0, 0, 0, *rpy, 1])
    assert turn_between(INSIDE, command.target) == pytest.approx(0.25, abs=1e-6)
    asked, done = rotation_of_euler(rpy), command.target.rotation @ INSIDE.rotation.T
    axis = np.linalg.eigh((done + done.T) / 2)[1][:, -1]
    np.testing.assert_allclose(asked @ axis, axis, atol=1e-6)
    left = rotation_angle(asked @ done.T)  # it went the asked way round, so that much less is left to turn
    assert left == pytest.approx(rotation_angle(asked) - 0.25, abs=1e-5)


@given(st.tuples(*[hostile] * 7))
def test_a_target_that_starts_outside_the_box_is_never_taken_further_out(action):
    outside = Pose(np.array([0.45, -0.3, 0.15]), DEFAULT_ROTATION)
    target = pipeline().apply(outside, action).target
    assert 0.1 <= target.position[0] <= 0.45
    assert -0.3 <= target.position[1] <= 0.2
    assert np.abs(target.position - outside.position).max() <= 0.05 + 1e-8


def test_a_target_outside_the_box_that_is_told_to_stay_does_not_move():
    outside = Pose(np.array([0.45, -0.3, 0.15]), DEFAULT_ROTATION)
    command = pipeline().apply(outside, [0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(command.target.position, outside.position)
    assert command.flags == 0


@pytest.mark.parametrize("position", range(7))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e39])
def test_a_number_that_is_not_finite_stops_the_pipeline_before_anything_is_counted(position, bad):
    action = [0.0] * 7
    action[position] = bad
    safe = pipeline()
    with pytest.raises(BadAction):
        safe.apply(INSIDE, action)
    assert not any(safe.counts.values())


def test_the_executed_action_of_a_target_that_did_not_move_is_no_motion():
    np.testing.assert_allclose(executed_action(INSIDE, INSIDE, 0.25), [0, 0, 0, 0, 0, 0, 0.25], atol=1e-12)
