"""The WidowX-250s as a chain of six joints: where the gripper is, and which joints bring it somewhere.

Pure numpy, so that a station for the real arm can check reachability without a simulator. The two fingers do
not move the gripper's pose and are not part of the chain. Frame: robot base, x forward, y left, z up; metres
and radians.

Source: wx250s.urdf of the vendor's description (offsets, axes, ranges); Buss 2004, "Introduction to inverse
kinematics", section 6, for damped least squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from robot_bridge.conventions import Pose

F64 = NDArray[np.float64]

JOINT_NAMES: Final = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
JOINT_OFFSETS: Final = (  # metres, each joint in its parent's frame
    (0.0, 0.0, 0.072),
    (0.0, 0.0, 0.03865),
    (0.04975, 0.0, 0.25),
    (0.175, 0.0, 0.0),
    (0.075, 0.0, 0.0),
    (0.065, 0.0, 0.0),
)
JOINT_AXES: Final = ("z", "y", "y", "x", "y", "x")
GRIPPER_OFFSET: Final = 0.093575  # metres along the last link's x, to the point between the fingertips
JOINT_LOW: Final[F64] = np.array([-3.14158, -1.88496, -2.14675, -3.14158, -1.74533, -3.14158])
JOINT_HIGH: Final[F64] = np.array([3.14158, 1.98968, 1.6057, 3.14158, 2.14675, 3.14158])
FINGER_LOW: Final = 0.015  # metres of finger travel, closed
FINGER_HIGH: Final = 0.037

POSITION_TOLERANCE: Final = 1e-4  # metres: well below the arm's repeatability of 1 mm
ROTATION_TOLERANCE: Final = 1e-3  # radians
MAX_ITERATIONS: Final = 60
DAMPING: Final = 1e-3  # of the least squares; small: targets are one short step apart
MAX_JOINT_CHANGE: Final = 0.3  # radians per iteration, keeps the linearisation honest

_AXIS_VECTOR: Final = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Joints [6] that come closest to a pose, and how far off they leave the gripper (metres, radians)."""

    joints: F64
    position_error: float
    rotation_error: float

    @property
    def ok(self) -> bool:
        return self.position_error <= POSITION_TOLERANCE and self.rotation_error <= ROTATION_TOLERANCE


def forward(joints: F64) -> Pose:
    """Pose of the gripper at joints [6]."""
    position, rotation, _ = _chain(np.asarray(joints, dtype=np.float64))
    return Pose(position, rotation)


def jacobian(joints: F64) -> F64:
    """Gripper velocity per joint velocity in the base frame, [6, 6]: rows are xyz, then rotation vector."""
    return _chain(np.asarray(joints, dtype=np.float64))[2]


def inverse(target: Pose, start: F64) -> Solution:
    """Joints [6] within their limits that take the gripper to a pose, searched from the joints it has now.

    The search follows one branch, so that the arm never flips between two postures. For a pose out of reach
    the closest joints found come back, with `ok` False.

    Source: damped least squares, Buss 2004, equation 11.
    """
    joints = np.clip(np.asarray(start, dtype=np.float64), JOINT_LOW, JOINT_HIGH)
    for _ in range(MAX_ITERATIONS):
        position, rotation, jac = _chain(joints)
        error = np.concatenate([target.position - position, _rotation_vector(target.rotation @ rotation.T)])
        solution = Solution(
            joints=joints,
            position_error=float(np.linalg.norm(error[:3])),
            rotation_error=float(np.linalg.norm(error[3:])),
        )
        if solution.ok:
            break
        step = jac.T @ np.linalg.solve(jac @ jac.T + DAMPING**2 * np.eye(6), error)
        step *= min(1.0, MAX_JOINT_CHANGE / max(float(np.abs(step).max()), 1e-9))
        joints = np.clip(joints + step, JOINT_LOW, JOINT_HIGH)
    return solution


def _chain(joints: F64) -> tuple[F64, F64, F64]:
    """Position [3], rotation [3, 3] and Jacobian [6, 6] of the gripper."""
    position, rotation = np.zeros(3), np.eye(3)
    anchors, axes = np.empty((6, 3)), np.empty((6, 3))
    for index, (offset, axis, angle) in enumerate(zip(JOINT_OFFSETS, JOINT_AXES, joints, strict=True)):
        position = position + rotation @ offset
        anchors[index] = position
        axes[index] = rotation @ _AXIS_VECTOR[axis]
        rotation = rotation @ _turn(axis, float(angle))
    position = position + rotation[:, 0] * GRIPPER_OFFSET
    linear = np.cross(axes, position - anchors)  # [6, 3]
    return position, rotation, np.concatenate([linear.T, axes.T])


def _turn(axis: str, angle: float) -> F64:
    c, s = np.cos(angle), np.sin(angle)
    if axis == "x":
        return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    if axis == "y":
        return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _rotation_vector(rotation: F64) -> F64:
    """Rotation vector [3] of a rotation matrix; exact below pi, where one step of the arm never gets."""
    skew = 0.5 * np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    sine = float(np.linalg.norm(skew))
    angle = float(np.arctan2(sine, 0.5 * (np.trace(rotation) - 1.0)))
    return skew * (angle / sine) if sine > 1e-9 else skew


class WidowXArm:
    """This chain as an `ArmModel`."""

    @property
    def joint_low(self) -> F64:
        return JOINT_LOW

    @property
    def joint_high(self) -> F64:
        return JOINT_HIGH

    def forward(self, joints: F64) -> Pose:
        return forward(joints)

    def inverse(self, target: Pose, start: F64) -> F64 | None:
        solution = inverse(target, start)
        return solution.joints if solution.ok else None

    def collides(self, joints: F64) -> bool:
        """Whether elbow, wrist or gripper would be below the table that the base stands on."""
        rotation, position = np.eye(3), np.zeros(3)
        for offset, axis, angle in zip(JOINT_OFFSETS, JOINT_AXES, joints, strict=True):
            position = position + rotation @ offset
            if position[2] < 0.0:
                return True
            rotation = rotation @ _turn(axis, float(angle))
        return False


WIDOWX: Final = WidowXArm()
