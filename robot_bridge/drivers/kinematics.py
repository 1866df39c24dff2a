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
STEP_ITERATIONS: Final = 20  # for a target one step away: those in reach are found within 12, most within 4
DAMPING: Final = 1e-3  # of the least squares; small: targets are one short step apart
MAX_JOINT_CHANGE: Final = 0.3  # radians per iteration, keeps the linearisation honest

# The keep-out. Radii are those of the links, rounded up to the half centimetre; the base is its foot and the
# turntable above it. Measured on the drawings, not on an arm: a lab's own box is the first line of defence.
BASE_RADIUS: Final = 0.060  # metres around the waist's axis
BASE_HEIGHT: Final = 0.110  # up to the shoulder's axis
UPPER_ARM_CLEARANCE: Final = 0.045  # between a point of the gripper and the middle line of the upper arm
ELBOW_CORNER: Final[F64] = np.array([0.0, 0.0, 0.25])  # where the upper arm bends, in the shoulder's frame
GRIPPER_SHAPE: Final[F64] = (
    np.array(  # palm, fingertips shut, and each of them opened, in the gripper's frame
        [[0.040, 0.0, 0.0], [0.1055, 0.0, 0.0], [0.1055, 0.045, 0.0], [0.1055, -0.045, 0.0]]
    )
)
GRIPPER_POINTS: Final = 4  # the guarded points before them: elbow, forearm, wrist, wrist rotation
TABLE_RADII: Final[F64] = np.array([0.03, 0.03, 0.03, 0.02, 0.02, 0.0, 0.0, 0.0])  # fingertips may touch it
BASE_RADII: Final[F64] = np.array([0.03, 0.03, 0.03, 0.025, 0.025, 0.005, 0.005, 0.005])

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


def inverse(target: Pose, start: F64, *, iterations: int = MAX_ITERATIONS) -> Solution:
    """Joints [6] within their limits that take the gripper to a pose, searched from the joints it has now.

    The search follows one branch, so that the arm never flips between two postures. For a pose out of reach
    the closest joints found come back, with `ok` False.

    Source: damped least squares, Buss 2004, equation 11.
    """
    joints = np.clip(np.asarray(start, dtype=np.float64), JOINT_LOW, JOINT_HIGH)
    for _ in range(iterations):
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
    linear = _cross(axes, position - anchors)  # [6, 3]
    return position, rotation, np.concatenate([linear.T, axes.T])


def _cross(first: F64, second: F64) -> F64:
    """Cross products of rows [6, 3]; numpy's own spends most of its time on what axes there are."""
    a, b = first.T, second.T
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]], axis=1)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class WidowXArm:
    """This chain as an `ArmModel`, on a table whose top is at `table_z` metres in the base frame.

    Labs that bolt the arm on a riser give the height they measured: BridgeData V2's tables lie below 0.
    """

    table_z: float = 0.0

    @property
    def joint_low(self) -> F64:
        return JOINT_LOW

    @property
    def joint_high(self) -> F64:
        return JOINT_HIGH

    def forward(self, joints: F64) -> Pose:
        return forward(joints)

    def inverse(self, target: Pose, start: F64) -> F64 | None:
        solution = inverse(target, start, iterations=STEP_ITERATIONS)
        return solution.joints if solution.ok else None

    def collides(self, joints: F64) -> bool:
        """Whether a guarded point comes into the table, the base, or the arm's own upper arm.

        The keep-out is a half-space, a cylinder and a capsule, each grown by the radius of the link that the
        point stands for. Forearm and upper arm are kept apart by the elbow's own limits.
        """
        points, shoulder, elbow_corner = _guarded(np.asarray(joints, dtype=np.float64))
        in_table = points[:, 2] < self.table_z + TABLE_RADII
        in_base = (np.hypot(points[:, 0], points[:, 1]) < BASE_RADIUS + BASE_RADII) & (
            points[:, 2] < BASE_HEIGHT + BASE_RADII
        )
        gripper = points[GRIPPER_POINTS:]
        in_upper_arm = _distance_to_segment(gripper, shoulder, end=elbow_corner) < UPPER_ARM_CLEARANCE
        return bool(in_table.any() or in_base.any() or in_upper_arm.any())


def _guarded(joints: F64) -> tuple[F64, F64, F64]:
    """The guarded points [8, 3], and the ends of the upper arm [3]: shoulder, and the corner at its top."""
    position, rotation = np.zeros(3), np.eye(3)
    origins, turns = [], []
    for offset, axis, angle in zip(JOINT_OFFSETS, JOINT_AXES, joints, strict=True):
        position = position + rotation @ offset
        rotation = rotation @ _turn(axis, float(angle))
        origins.append(position)
        turns.append(rotation)
    shoulder, elbow = 1, 2
    corner = origins[shoulder] + turns[shoulder] @ ELBOW_CORNER
    gripper = origins[-1] + GRIPPER_SHAPE @ rotation.T  # [4, 3]
    return np.stack([*origins[elbow:], *gripper]), origins[shoulder], corner


def _distance_to_segment(points: F64, start: F64, *, end: F64) -> F64:
    """Distance [N] of points [N, 3] to the segment between two points [3]."""
    way = end - start
    share = np.clip((points - start) @ way / (way @ way), 0.0, 1.0)
    return np.asarray(np.linalg.norm(points - start - share[:, None] * way, axis=1))


WIDOWX: Final = WidowXArm()
