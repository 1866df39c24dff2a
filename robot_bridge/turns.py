"""Turns of the gripper: how large one is, part of one, and how far the gripper leans from straight down.

Rotation matrices only; what an action's Euler angles mean is in `conventions`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from robot_bridge.conventions import F64, Pose, euler_of_rotation, rotation_angle, rotation_of_euler

ROTATION_TOLERANCE: Final = 1e-6  # radians of float32 rounding that do not count as too far
SMALLEST_TURN: Final = 1e-9  # radians; below it a turn has no axis to speak of
NEARLY_HALF: Final = 3.0  # radians; beyond, the skew part of the matrix is too small to give the axis
SAME_POSE: Final = 1e-6  # metres and radians; below it two poses are the same one
CONE_HALVINGS: Final = 40  # until the edge of the cone is known to 1e-12 of the turn


def axis_and_angle(rotation: F64) -> tuple[F64, float]:
    """Unit axis [3] and angle in [0, pi] of a rotation matrix; the axis of no turn is x."""
    angle = rotation_angle(rotation)
    twist = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    if angle < SMALLEST_TURN:
        return np.array([1.0, 0.0, 0.0]), angle
    if angle < NEARLY_HALF:
        return twist / np.linalg.norm(twist), angle
    values, vectors = np.linalg.eigh((rotation + rotation.T) / 2.0)
    axis = vectors[:, int(np.argmax(values))]
    return np.asarray(axis if float(axis @ twist) >= 0 else -axis), angle


def rotation_about(axis: F64, angle: float) -> F64:
    """Rotation matrix [3, 3] of `angle` radians about a unit axis [3].

    Source: Rodrigues' formula.
    """
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross))


def shortened(rpy: F64, limit: float) -> tuple[F64, bool]:
    """A turn given as roll, pitch, yaw [3], cut to `limit` radians about its own axis, and whether it was."""
    rotation = rotation_of_euler(rpy)
    if rotation_angle(rotation) <= limit + ROTATION_TOLERANCE:
        return rpy, False
    axis, _ = axis_and_angle(rotation)
    return euler_of_rotation(rotation_about(axis, limit)), True


def angle_between(first: F64, second: F64) -> float:
    """Radians of the turn that leads from one rotation matrix to another."""
    return rotation_angle(second @ first.T)


def partway(start: Pose, goal: Pose, share: float) -> Pose:
    """The pose at `share` (0..1) of the straight way: position on the line, turn about its one axis."""
    if share >= 1.0:
        return goal
    if share <= 0.0:
        return start
    way = start.position + share * (goal.position - start.position)
    low, high = np.minimum(start.position, goal.position), np.maximum(start.position, goal.position)
    axis, angle = axis_and_angle(goal.rotation @ start.rotation.T)
    turn = rotation_about(axis, share * angle) if angle >= SMALLEST_TURN else np.eye(3)
    return Pose(np.clip(way, low, high), turn @ start.rotation)


def tilt_of(rotation: F64) -> float:
    """Radians in [0, pi] between the gripper's approach direction (its own x) and straight down."""
    approach = rotation[:, 0]
    return float(np.arctan2(np.hypot(approach[0], approach[1]), -approach[2]))


def within_cone(start: F64, goal: F64, tilt_max: float) -> F64:
    """The turn from one rotation matrix to another, ended where the gripper would leave the cone about down.

    A gripper that starts outside the cone may stay or lean back, never lean further out.
    """
    allowed = max(tilt_max, tilt_of(start))
    if tilt_of(goal) <= allowed + ROTATION_TOLERANCE:
        return goal
    axis, angle = axis_and_angle(goal @ start.T)
    approach = start[:, 0]
    up, across = float(approach[2]), float(np.cross(axis, approach)[2])
    fixed = float(axis[2] * (axis @ approach))
    low, high = 0.0, 1.0  # shares of the turn: inside the cone, outside
    for _ in range(CONE_HALVINGS):
        middle = (low + high) / 2
        c, s = np.cos(middle * angle), np.sin(middle * angle)
        inside = -(up * c + across * s + fixed * (1.0 - c)) >= np.cos(allowed)
        low, high = (middle, high) if inside else (low, middle)
    return start if low == 0.0 else rotation_about(axis, low * angle) @ start


def same_pose(first: Pose, second: Pose, *, within: float = SAME_POSE) -> bool:
    """Whether two poses differ by no more than so many metres along an axis and radians."""
    apart = float(np.abs(first.position - second.position).max())
    return apart <= within and angle_between(first.rotation, second.rotation) <= within
