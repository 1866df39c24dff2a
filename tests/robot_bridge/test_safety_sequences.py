"""Whole episodes of hostile actions through the whole pipeline, on the WidowX and on an arm of slides.

Whatever is asked, and however the motors complain meanwhile: the target stays in box and cone, nothing is
faster than its limit, no joint leaves its range or the arm its free space, and nothing is ever more than was
asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_bridge.conventions import DEFAULT_ROTATION, Pose, rotation_angle, rotation_of_euler
from robot_bridge.drivers.driver import ArmModel, StepOutcome
from robot_bridge.drivers.kinematics import WIDOWX
from robot_bridge.drivers.mujoco_widowx import NEAR_HOME
from robot_bridge.errors import BadAction
from robot_bridge.safety import CLIPPED_EFFORT, Limits, SafeCommand, SafetyPipeline
from robot_bridge.turns import angle_between, tilt_of
from tests.robot_bridge.cartesian_arm import CartesianArm, a_sample

HZ = 5.0
LIMITS = Limits(box_low=(0.2, -0.16, 0.03), box_high=(0.4, 0.1, 0.2))
TIGHT = replace(LIMITS, ee_speed_max=0.15, joint_speed_max=0.6, tilt_max=0.3)
GENTLE = replace(LIMITS, ee_accel_max=0.2, joint_accel_max=0.8)
START = Pose(np.array([0.292, -0.006, 0.135]), DEFAULT_ROTATION)

numbers = st.one_of(
    st.floats(-0.06, 0.06),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.0, -0.0, 5e-324, -1e-310, 1e-30, 3e38, -3e38, math.pi, -math.pi, 0.05, -0.05]),
)
broken = st.sampled_from([math.nan, math.inf, -math.inf, 1e39, -1e300])
actions = st.tuples(*[numbers] * 7)
mixed = st.one_of(actions, st.tuples(*[st.one_of(numbers, broken)] * 7))
efforts = st.sampled_from([0.0, 500.0, 900.0, -1100.0, 5000.0, math.nan])
sequences = st.lists(st.tuples(mixed, efforts), min_size=1, max_size=12)


def widowx() -> tuple[ArmModel, np.ndarray]:
    return WIDOWX, np.array(NEAR_HOME)


def slides() -> tuple[ArmModel, np.ndarray]:
    arm = CartesianArm(
        low=(0.0, -0.5, 0.0, -1, -1, -1),
        high=(0.35, 0.5, 0.4, 1, 1, 1),
        forbidden_below=0.06,
        gear=5.0,
    )
    return arm, np.array([*START.position * 5.0, 0, 0, 0])


@dataclass
class Run:
    """One episode: a pipeline, the target that the arm holds and the joints it was told."""

    arm: ArmModel | None
    joints: np.ndarray
    limits: Limits
    target: Pose = START
    moved: np.ndarray = field(default_factory=lambda: np.zeros(3))  # of the last step
    turned: np.ndarray = field(default_factory=lambda: np.zeros(6))
    pipeline: SafetyPipeline = field(init=False)

    def __post_init__(self) -> None:
        self.pipeline = SafetyPipeline(self.limits, arm=self.arm, control_hz=HZ)
        self.pipeline.begin(a_sample(self.joints))
        if self.arm is not None:
            solved = self.arm.inverse(self.target, self.joints)
            assert solved is not None
            self.joints = solved

    def step(self, action: Sequence[float], effort: float, *, refused: bool = False) -> SafeCommand | None:
        sample = a_sample(self.joints, effort=effort)
        try:
            command = self.pipeline.apply(self.target, action, effort_mA=sample.effort_mA)
        except BadAction:
            assert not np.isfinite(np.asarray(action)).all() or np.abs(action).max() > 3.4e38
            return None
        assert np.isfinite(np.asarray(action)).all()
        self.check(command, np.asarray(action, dtype=np.float64))
        after = self.target if refused else command.target
        self.pipeline.took(StepOutcome(sample=sample, ik_ok=not refused, target=after))
        self.moved, self.turned = after.position - self.target.position, np.zeros(6)
        if not refused:
            if command.joints is not None:
                self.turned = command.joints - self.joints
            self.target = after
            self.joints = self.joints if command.joints is None else command.joints
        return command

    def check(self, command: SafeCommand, asked: np.ndarray) -> None:
        limits, before, after = self.limits, self.target, command.target
        move = after.position - before.position
        assert np.isfinite(command.executed).all()
        assert 0.0 <= command.gripper <= 1.0
        assert (after.position >= np.minimum(limits.box_low, before.position)).all()
        assert (after.position <= np.maximum(limits.box_high, before.position)).all()
        assert (np.abs(move) <= np.minimum(np.abs(asked[:3]), limits.step_xyz_max) + 1e-8).all()
        assert np.linalg.norm(move) * HZ <= limits.ee_speed_max + 1e-6
        length = float(np.linalg.norm(move))
        carried = max(0.0, float(self.moved @ move) / length) if length > 1e-9 else 0.0
        assert length <= carried + limits.ee_accel_max / HZ**2 + 1e-6
        turned = angle_between(before.rotation, after.rotation)
        wanted = rotation_angle(rotation_of_euler(asked[3:6].astype(np.float32)))
        assert turned <= min(wanted, limits.step_rot_max) + 1e-5
        assert tilt_of(after.rotation) <= max(limits.tilt_max, tilt_of(before.rotation)) + 2e-6
        np.testing.assert_allclose(command.executed[:3], move, atol=1e-7)
        if self.arm is not None:
            self.check_joints(command)

    def check_joints(self, command: SafeCommand) -> None:
        assert self.arm is not None
        assert command.joints is not None
        assert (command.joints >= self.arm.joint_low).all()
        assert (command.joints <= self.arm.joint_high).all()
        assert np.abs(command.joints - self.joints).max() * HZ <= self.limits.joint_speed_max + 1e-3
        way = command.joints - self.joints
        carried = np.maximum(0.0, self.turned * np.sign(way))
        assert (np.abs(way) <= carried + self.limits.joint_accel_max / HZ**2 + 1e-3).all()
        assert not self.arm.collides(command.joints)
        reached = self.arm.forward(command.joints)
        assert np.linalg.norm(reached.position - command.target.position) < 2e-4
        assert angle_between(reached.rotation, command.target.rotation) < 2e-3


@pytest.mark.parametrize("limits", [LIMITS, TIGHT, GENTLE], ids=["own", "tight", "gentle"])
@pytest.mark.parametrize("make", [widowx, slides])
@settings(max_examples=60, deadline=None)
@given(steps=sequences)
def test_no_sequence_however_hostile_breaks_a_limit(make: Callable, limits: Limits, steps: list) -> None:
    arm, joints = make()
    run = Run(arm, joints, limits)
    for action, effort in steps:
        run.step(action, effort)


@settings(max_examples=60, deadline=None)
@given(steps=sequences)
def test_without_an_arm_the_same_holds_of_the_target(steps):
    run = Run(None, np.zeros(6), TIGHT)
    for action, effort in steps:
        run.step(action, effort)


@pytest.mark.parametrize(
    ("make", "cut"),
    [
        (widowx, {"box", "tilt", "speed", "accel", "effort", "ik"}),
        (slides, {"box", "tilt", "speed", "accel", "effort", "collision"}),
    ],
)
def test_a_long_hostile_episode_meets_every_stage_and_passes_none(make, cut):
    """Directions are kept for a while, so that every border is really reached."""
    arm, joints = make()
    reaching = replace(TIGHT, box_low=(0.1, -0.6, 0.03), box_high=(0.55, 0.6, 0.45), tilt_max=0.7)
    reaching = replace(reaching, ee_accel_max=0.5, joint_accel_max=2.0)
    run, rng = Run(arm, joints, reaching), np.random.default_rng(3)
    for step in range(240):
        if step % 12 == 0:
            direction = rng.uniform(-1, 1, 6) * [0.08, 0.08, 0.08, 0.2, 0.2, 0.2]
        noise = rng.normal(0.0, 0.3, 6) * np.abs(direction)
        overload = 2000.0 if step % 40 > 36 else 300.0
        run.step([*(direction + noise), rng.uniform(-0.2, 1.2)], overload, refused=step % 50 == 49)
    counts = run.pipeline.counts
    assert {stage for stage in cut if counts[stage] == 0} == set()
    assert counts["xyz"] > 0
    assert counts["gripper"] > 0


@pytest.mark.parametrize("make", [widowx, slides])
def test_back_and_forth_at_the_largest_step_never_drifts(make):
    arm, joints = make()
    run = Run(arm, joints, LIMITS)
    for step in range(30):
        sign = 1.0 if step % 2 else -1.0
        command = run.step([0.04 * sign, 0.04 * sign, 0.0, 0.0, 0.0, 0.1 * sign, 1.0], 0.0)
        assert command is not None
        assert command.flags == 0
    np.testing.assert_allclose(run.target.position, START.position, atol=1e-6)
    assert angle_between(run.target.rotation, START.rotation) < 1e-6


def test_denormal_actions_are_no_motion_and_no_fault():
    run = Run(*widowx(), LIMITS)
    for tiny in (5e-324, -1e-310, 1e-40):
        command = run.step([tiny] * 7, 0.0)
        assert command is not None
        np.testing.assert_allclose(run.target.position, START.position, atol=1e-12)


def test_a_broken_action_leaves_the_pipeline_as_it_was():
    one, other = Run(*widowx(), TIGHT), Run(*widowx(), TIGHT)
    good = [0.03, -0.02, 0.01, 0.1, 0.0, 0.1, 1.0]
    for run in (one, other):
        run.step(good, 200.0)
    assert one.step([math.nan, *good[1:]], 9000.0) is None
    first, second = one.step(good, 200.0), other.step(good, 200.0)
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.executed, second.executed)
    np.testing.assert_array_equal(first.joints, second.joints)
    assert one.pipeline.counts == other.pipeline.counts


NARROWER = ("ee_speed_max", "joint_speed_max", "ee_accel_max", "joint_accel_max", "tilt_max")
calm = st.tuples(*[st.floats(-0.05, 0.05)] * 3, *[st.floats(-0.14, 0.14)] * 3, st.floats(0, 1))


def sizes(before: Pose, command: SafeCommand) -> tuple[float, float]:
    """Metres and radians of one command."""
    moved = float(np.linalg.norm(command.target.position - before.position))
    return moved, angle_between(before.rotation, command.target.rotation)


@pytest.mark.parametrize("make", [widowx, slides])
@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(NARROWER), share=st.floats(0.02, 1.0), steps=st.lists(calm, max_size=6))
def test_a_narrower_speed_or_cone_never_moves_further(
    make: Callable, name: str, share: float, steps: list
) -> None:
    """At every pose of an episode both are asked the same; the episode goes on as the wider one says."""
    arm, joints = make()
    own = replace(LIMITS, tilt_max=0.5)
    narrow = replace(own, **{name: share * getattr(own, name)})
    wider, narrower = Run(arm, joints, own), Run(arm, joints, narrow)
    for action in steps:
        before = wider.target
        first, second = wider.step(action, 0.0), narrower.step(action, 0.0)
        assert first is not None
        assert second is not None
        for much, little in zip(sizes(before, first), sizes(before, second), strict=True):
            assert little <= much + 2e-6
        narrower.target, narrower.joints = wider.target, wider.joints
        for run in (wider, narrower):  # both go on from rest, so that both carry over the same
            run.pipeline.begin(a_sample(wider.joints))
            run.moved, run.turned = np.zeros(3), np.zeros(6)


@settings(max_examples=80, deadline=None)
@given(
    share=st.floats(0.05, 1.0),
    steps=st.lists(st.tuples(calm, st.floats(0.0, 2000.0)), min_size=1, max_size=12),
)
def test_a_narrower_effort_never_moves_further(share: float, steps: list) -> None:
    narrow = replace(LIMITS, effort_max_mA=share * LIMITS.effort_max_mA)
    wider, narrower = Run(None, np.zeros(6), LIMITS), Run(None, np.zeros(6), narrow)
    for action, effort in steps:
        before = wider.target
        first, second = wider.step(action, effort), narrower.step(action, effort)
        assert first is not None
        assert second is not None
        if not first.flags & CLIPPED_EFFORT:  # otherwise both go back, each to where it was quiet
            for much, little in zip(sizes(before, first), sizes(before, second), strict=True):
                assert little <= much + 2e-6
        narrower.target = wider.target


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(calm, max_size=12), accel=st.floats(0.02, 2.0))
def test_a_limit_of_acceleration_never_makes_a_step_longer_or_turns_it_aside(
    steps: list, accel: float
) -> None:
    """Its cut lies on the way that was asked: nothing is added to brake, and no other direction taken."""
    run = Run(None, np.zeros(6), replace(LIMITS, ee_accel_max=accel))
    for action in steps:
        before = run.target
        free = SafetyPipeline(LIMITS, control_hz=HZ).apply(before, action).target.position - before.position
        command = run.step(action, 0.0)
        assert command is not None
        move = command.target.position - before.position
        assert np.linalg.norm(move) <= np.linalg.norm(free) + 1e-9
        assert np.linalg.norm(np.cross(move, free)) <= 1e-9
        assert move @ free >= -1e-12
