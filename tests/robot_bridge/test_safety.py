"""The safety pipeline: whatever is asked, the target stays in the box and within one step of the last one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_bridge.conventions import DEFAULT_ROTATION, Pose, compose_target, rotation_angle, rotation_of_euler
from robot_bridge.drivers.driver import StepOutcome
from robot_bridge.errors import BadAction
from robot_bridge.safety import (
    CLIPPED_ACCEL,
    CLIPPED_BOX,
    CLIPPED_COLLISION,
    CLIPPED_EFFORT,
    CLIPPED_GRIPPER,
    CLIPPED_ROT,
    CLIPPED_SPEED,
    CLIPPED_TILT,
    CLIPPED_XYZ,
    FALLBACK,
    HELD,
    IK_FAILED,
    STAGES,
    Limits,
    SafetyPipeline,
    executed_action,
)
from tests.robot_bridge.cartesian_arm import CartesianArm, a_sample

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


def begun(arm: CartesianArm | None = None, **limits: object) -> SafetyPipeline:
    """A pipeline that has seen its arm at INSIDE."""
    made = SafetyPipeline(pipeline(**limits).limits, arm=arm)
    made.begin(a_sample(np.array([*INSIDE.position, 0, 0, 0])))
    return made


def effort(peak: float) -> np.ndarray:
    return np.array([0, peak, 0, 0, 0, 0, 0], dtype=np.float32)


def outcome(target: Pose, *, ik_ok: bool = True, peak: float = 0.0) -> StepOutcome:
    joints = np.array([*target.position, 0, 0, 0])
    return StepOutcome(sample=a_sample(joints, effort=peak), ik_ok=ik_ok, target=target)


def test_every_stage_has_a_bit_of_its_own_and_what_is_no_stage_has_others():
    bits = [*STAGES.values(), HELD, FALLBACK]
    assert sorted(bits) == [2**n for n in range(12)]


def test_a_command_names_the_joints_that_take_the_arm_there():
    command = begun(CartesianArm()).apply(INSIDE, [0.02, 0, 0, 0, 0, 0.1, 1])
    assert command.flags == 0
    np.testing.assert_allclose(command.joints, [0.27, 0, 0.15, 0, 0, 0.1], atol=1e-6)
    assert begun().apply(INSIDE, [0.02, 0, 0, 0, 0, 0.1, 1]).joints is None


@pytest.mark.parametrize(
    ("action", "limits", "arm", "flag", "executed"),
    [
        ([0.0, 0, 0, 0.2, 0, 0, 1], {"tilt_max": 0.1}, {}, CLIPPED_TILT, [0, 0, 0, 0.1, 0, 0, 1]),
        (
            [0.03, 0, 0.04, 0, 0, 0, 1],
            {"ee_speed_max": 0.1},
            {},
            CLIPPED_SPEED,
            [0.012, 0, 0.016, 0, 0, 0, 1],
        ),
        ([0.03, 0, 0, 0, 0, 0, 1], {}, {"high": (0.26, 1, 1, 1, 1, 1)}, IK_FAILED, [0, 0, 0, 0, 0, 0, 1]),
        (
            [0, 0, -0.04, 0, 0, 0, 1],
            {},
            {"forbidden_below": 0.129},
            CLIPPED_COLLISION,
            [0, 0, -0.02, 0, 0, 0, 1],
        ),
    ],
    ids=["tilt", "speed", "ik", "collision"],
)
def test_each_stage_that_asks_the_arm_cuts_its_part_and_says_so(action, limits, arm, flag, executed):
    safe = begun(CartesianArm(**arm), **limits)
    command = safe.apply(INSIDE, action)
    assert command.flags == flag
    np.testing.assert_allclose(command.executed, executed, atol=1e-6)
    assert {name: n for name, n in safe.counts.items() if n} == {
        name: 1 for name, bit in STAGES.items() if bit == flag
    }


def test_a_slower_control_loop_may_go_further_in_one_step():
    limits = pipeline(ee_speed_max=0.05).limits
    lengths = [
        float(SafetyPipeline(limits, control_hz=hz).apply(INSIDE, [0.04, 0, 0, 0, 0, 0, 1]).executed[0])
        for hz in (2.0, 5.0, 10.0)
    ]
    assert lengths == pytest.approx([0.025, 0.01, 0.005])


def test_an_arm_that_nobody_has_seen_is_not_moved():
    safe = SafetyPipeline(LIMITS, arm=CartesianArm())
    command = safe.apply(INSIDE, [0.03, 0, 0, 0, 0, 0, 1])
    assert command.flags == IK_FAILED
    assert command.target is INSIDE
    assert command.joints is None


def test_an_overload_turns_the_motion_round_until_it_is_over():
    safe = begun(CartesianArm())
    down = safe.apply(INSIDE, [0, 0, -0.03, 0, 0, 0, 1], effort_mA=effort(300))
    safe.took(outcome(down.target))
    pressed = safe.apply(down.target, [0, 0, -0.03, 0, 0, 0, 1], effort_mA=effort(-1200))
    assert pressed.flags == CLIPPED_EFFORT
    np.testing.assert_allclose(pressed.executed[:3], [0, 0, 0.015], atol=1e-7)
    np.testing.assert_allclose(pressed.joints[2], 0.135, atol=1e-7)
    safe.took(outcome(pressed.target))
    free = safe.apply(pressed.target, [0, 0, -0.01, 0, 0, 0, 1], effort_mA=effort(300))
    assert free.flags == 0
    assert safe.counts["effort"] == 1


def test_the_currents_of_the_newest_sample_count_when_no_newer_ones_are_given():
    safe = begun()
    command = safe.apply(INSIDE, [0, 0, -0.03, 0, 0, 0, 1])
    safe.took(outcome(command.target, peak=2000.0))
    assert safe.apply(command.target, [0, 0, -0.03, 0, 0, 0, 1]).flags == CLIPPED_EFFORT
    safe.begin(a_sample(np.array([*INSIDE.position, 0, 0, 0]), effort=100.0))
    assert safe.apply(INSIDE, [0, 0, -0.03, 0, 0, 0, 1]).flags == 0


def test_what_an_overload_leaves_alone_is_not_reported_as_cut():
    safe = begun()
    safe.apply(INSIDE, [0, 0, 0, 0, 0, 0, 1], effort_mA=effort(100))
    low = Pose(INSIDE.position - np.array([0, 0, 0.03]), INSIDE.rotation)
    for action in ([0, 0, 0.02, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]):
        command = safe.apply(low, action, effort_mA=effort(5000))
        assert command.flags == 0
        np.testing.assert_array_equal(command.executed, np.float32(action))


def test_backing_off_never_leads_further_out_of_the_box():
    """The arm started outside, came in and met something: the way back would be the way out."""
    outside = Pose(np.array([0.44, 0.0, 0.15]), DEFAULT_ROTATION)
    came = Pose(np.array([0.41, 0.0, 0.15]), DEFAULT_ROTATION)
    safe = begun()
    safe.apply(outside, [0] * 7, effort_mA=effort(100))
    command = safe.apply(came, [-0.03, 0, 0, 0, 0, 0, 1], effort_mA=effort(3000))
    assert command.flags == CLIPPED_EFFORT
    np.testing.assert_array_equal(command.target.position, came.position)


def test_a_target_that_the_driver_refuses_is_flagged_counted_and_forgotten():
    safe = begun(CartesianArm())
    command = safe.apply(INSIDE, [0.03, 0, 0, 0, 0, 0, 1])
    assert safe.took(outcome(INSIDE, ik_ok=False)) == IK_FAILED
    assert safe.counts["ik"] == 1
    again = safe.apply(INSIDE, [0.03, 0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(again.joints, command.joints)
    assert safe.took(outcome(again.target)) == 0


def test_a_failure_that_both_the_pipeline_and_the_driver_found_is_counted_once():
    safe = begun(CartesianArm(high=(0.26, 1, 1, 1, 1, 1)))
    assert safe.apply(INSIDE, [0.03, 0, 0, 0, 0, 0, 1]).flags == IK_FAILED
    assert safe.took(outcome(INSIDE, ik_ok=False)) == IK_FAILED
    assert safe.counts["ik"] == 1


def test_after_a_hold_elsewhere_the_joints_are_those_of_the_new_place():
    safe = begun(CartesianArm())
    safe.apply(INSIDE, [0.03, 0, 0, 0, 0, 0, 1])
    held = Pose(np.array([0.26, 0.03, 0.12]), DEFAULT_ROTATION)
    safe.took(outcome(held))
    command = safe.apply(held, [0, 0.01, 0, 0, 0, 0, 1])
    np.testing.assert_allclose(command.joints[:3], [0.26, 0.04, 0.12], atol=1e-7)
    assert command.flags == 0


def test_an_ordinary_step_asks_for_inverse_kinematics_once():
    arm = CartesianArm()
    safe, target = begun(arm), INSIDE
    for _ in range(3):
        arm.solved.clear()
        command = safe.apply(target, [0.01, 0, 0, 0, 0, 0.05, 1])
        safe.took(outcome(command.target))
        target = command.target
    assert len(arm.solved) == 1


def gentle(ee_accel_max: float) -> SafetyPipeline:
    made = pipeline(ee_accel_max=ee_accel_max)
    made.begin(a_sample())
    return made


def strides(safe: SafetyPipeline, actions: list[list[float]]) -> list[float]:
    """Metres of x that the target goes, action after action, when the driver takes them all."""
    target, found = INSIDE, []
    for action in actions:
        command = safe.apply(target, action)
        safe.took(outcome(command.target))
        found.append(float(command.target.position[0] - target.position[0]))
        target = command.target
    return found


def test_an_arm_speeds_up_step_by_step_and_stops_at_once():
    """0.25 m/s2 at 5 Hz: each step may be 1 cm longer than the one before."""
    safe = gentle(0.25)
    forward, stop, back = [0.04, 0, 0, 0, 0, 0, 1], [0.0] * 6 + [1], [-0.04, 0, 0, 0, 0, 0, 1]
    found = strides(safe, [forward, forward, forward, stop, forward, back, back])
    np.testing.assert_allclose(found, [0.01, 0.02, 0.03, 0.0, 0.01, -0.01, -0.02], atol=1e-9)
    assert safe.counts["accel"] == 6
    assert safe.apply(INSIDE, forward).flags == CLIPPED_ACCEL


@pytest.mark.parametrize("why", ["begin", "rest", "refused", "elsewhere"])
def test_an_arm_that_stood_speeds_up_from_rest(why):
    safe, forward = gentle(0.25), [0.04, 0, 0, 0, 0, 0, 1]
    assert strides(safe, [forward] * 2) == pytest.approx([0.01, 0.02])
    held = Pose(INSIDE.position + np.array([0.03, 0, 0]), DEFAULT_ROTATION)
    if why == "begin":
        safe.begin(a_sample())
    elif why == "rest":
        safe.rest()
    elif why == "refused":
        safe.apply(held, forward)
        safe.took(outcome(held, ik_ok=False))
    else:
        held = Pose(INSIDE.position + np.array([0.02, 0, 0]), DEFAULT_ROTATION)
    command = safe.apply(held, forward)
    assert command.target.position[0] - held.position[0] == pytest.approx(0.01)
    assert command.executed[0] == pytest.approx(0.01)  # the record says what was really asked


def test_the_stations_own_limits_let_the_largest_step_be_the_first_one():
    safe = pipeline(ee_speed_max=1.0)
    safe.begin(a_sample())
    command = safe.apply(INSIDE, [0.05, 0.05, 0.05, 0, 0, 0, 1])
    assert command.flags == 0
