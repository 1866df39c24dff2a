"""What an arm can follow: reach, keep-out and speeds, on an arm whose answers are known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from robot_bridge.conventions import DEFAULT_ROTATION, Pose, rotation_of_euler
from robot_bridge.reach import Motion, Reach
from robot_bridge.turns import same_pose
from tests.robot_bridge.cartesian_arm import CartesianArm

HERE = Pose(np.array([0.25, 0.0, 0.15]), DEFAULT_ROTATION)
AT_HERE = np.array([0.25, 0.0, 0.15, 0.0, 0.0, 0.0])


def to(x: float, y: float, z: float, rpy: tuple[float, float, float] = (0, 0, 0)) -> Pose:
    return Pose(HERE.position + np.array([x, y, z]), rotation_of_euler(rpy) @ HERE.rotation)


def reach(arm: CartesianArm, *, step_m: float = 1.0, step_rad: float = 10.0) -> Reach:
    made = Reach(arm, step_m=step_m, step_rad=step_rad)
    made.begin(np.append(AT_HERE * arm._gears(), [0.03, 0.03]))
    return made


def followed(made: Reach, target: Pose) -> Motion:
    motion = made.reachable(HERE, target)
    assert motion is not None
    return made.slow(HERE, made.clear(HERE, motion))


def test_a_motion_that_fits_is_followed_as_it_is_with_the_joints_that_lead_there():
    target = to(0.03, 0.0, -0.01, (0, 0, 0.1))
    motion = followed(reach(CartesianArm()), target)
    assert motion.target is target
    np.testing.assert_allclose(motion.joints, [0.28, 0.0, 0.14, 0, 0, 0.1], atol=1e-9)


def test_a_place_beyond_a_joint_limit_is_not_reachable():
    assert reach(CartesianArm()).reachable(HERE, to(0.26, 0.0, 0.0)) is None


@pytest.mark.parametrize("lie", [np.full(6, np.nan), np.full(6, 9.0), np.full(6, -9.0)])
def test_an_arm_model_that_answers_nonsense_is_not_believed(lie):
    arm = CartesianArm()
    made = reach(arm)
    made.stay(HERE)
    arm.lies = lie
    assert made.reachable(HERE, to(0.01, 0.0, 0.0)) is None


def test_an_arm_whose_joints_nobody_has_seen_is_not_moved():
    made = Reach(CartesianArm(), step_m=1.0, step_rad=10.0)
    assert made.reachable(HERE, to(0.01, 0.0, 0.0)) is None
    assert made.stay(HERE).joints is None


def test_a_motion_into_the_keep_out_ends_before_it():
    motion = followed(reach(CartesianArm(forbidden_below=0.12)), to(0.0, 0.02, -0.05))
    assert 0.12 <= motion.target.position[2] <= 0.12 + 0.05 / 8
    share = (0.15 - motion.target.position[2]) / 0.05
    np.testing.assert_allclose(motion.target.position, HERE.position + share * np.array([0, 0.02, -0.05]))
    np.testing.assert_allclose(motion.joints[:3], motion.target.position)


def test_in_the_keep_out_only_the_way_out_is_open():
    arm = CartesianArm(forbidden_below=0.16)
    assert followed(reach(arm), to(0.0, 0.0, -0.03)).target is HERE
    assert followed(reach(arm), to(0.0, 0.0, 0.005)).target is HERE  # would end inside still
    assert followed(reach(arm), to(0.0, 0.0, 0.03)).target.position[2] == pytest.approx(0.18)


def test_a_gripper_that_would_go_too_fast_goes_less_far_on_the_same_way():
    motion = followed(reach(CartesianArm(), step_m=0.02), to(0.03, 0.0, -0.04, (0, 0, 0.2)))
    np.testing.assert_allclose(
        motion.target.position, HERE.position + np.array([0.012, 0.0, -0.016]), atol=1e-12
    )
    np.testing.assert_allclose(motion.target.rotation, to(0, 0, 0, (0, 0, 0.08)).rotation, atol=1e-9)


def test_joints_that_would_go_too_fast_shorten_the_way_of_the_gripper():
    motion = followed(reach(CartesianArm(gear=10.0), step_rad=0.1), to(0.04, 0.0, 0.0))
    assert 0.009 <= motion.target.position[0] - 0.25 <= 0.01
    assert abs(motion.joints[0] - 2.5) <= 0.1


def test_a_slow_motion_is_left_alone_to_the_bit():
    made = reach(CartesianArm(), step_m=0.02, step_rad=0.5)
    motion = made.reachable(HERE, to(0.02, 0.0, 0.0))
    assert motion is not None
    assert made.slow(HERE, motion) is motion


def test_a_joint_that_jumps_however_short_the_way_is_means_no_motion():
    """Near a singularity the shortest way of the gripper may be a long one of a joint."""

    class Jumpy(CartesianArm):
        def inverse(self, target, start):
            joints = super().inverse(target, start)
            return joints if same_pose(target, HERE) else joints + np.array([0, 0, 0, 1.5, 0, 0])

    motion = followed(reach(Jumpy(), step_rad=0.5), to(0.03, 0.0, 0.0))
    assert motion.target is HERE
    np.testing.assert_allclose(motion.joints, AT_HERE, atol=1e-12)


def test_without_an_arm_only_the_speed_of_the_gripper_is_judged():
    made = Reach(None, step_m=0.02, step_rad=0.1)
    made.begin(np.zeros(8))
    motion = made.reachable(HERE, to(0.04, 0.0, 0.0))
    assert motion is not None
    slow = made.slow(HERE, made.clear(HERE, motion))
    np.testing.assert_allclose(slow.target.position, HERE.position + np.array([0.02, 0, 0]))
    assert slow.joints is None


def test_joints_that_were_taken_are_not_solved_for_again():
    arm = CartesianArm()
    made = reach(arm)
    motion = made.reachable(HERE, to(0.01, 0.0, 0.0))
    assert motion is not None
    made.took(motion, HERE)
    arm.solved.clear()
    assert made.stay(motion.target).joints is motion.joints
    assert arm.solved == []


def test_a_target_that_the_driver_changed_is_solved_for_anew():
    made = reach(CartesianArm())
    motion = made.reachable(HERE, to(0.01, 0.0, 0.0))
    assert motion is not None
    made.took(motion, HERE)
    elsewhere = to(0.0, 0.05, 0.0)
    np.testing.assert_allclose(made.stay(elsewhere).joints[:3], elsewhere.position)


def test_when_the_known_joints_lead_nowhere_the_measured_ones_are_tried():
    class FromNear(CartesianArm):
        def inverse(self, target, start):
            near = np.abs(start[:3] - target.position).max() < 0.1
            return super().inverse(target, start) if near else None

    made = reach(FromNear())
    made.stay(HERE)
    far = to(0.0, 0.3, 0.0)
    assert made.stay(far).joints is None
    made.measure(np.array([0.25, 0.29, 0.15, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(made.stay(far).joints[:3], far.position)


def test_poses_are_the_same_up_to_rounding_only():
    assert same_pose(HERE, to(1e-7, 0.0, 0.0))
    assert not same_pose(HERE, to(1e-5, 0.0, 0.0))
    assert not same_pose(HERE, to(0.0, 0.0, 0.0, (1e-4, 0, 0)))
