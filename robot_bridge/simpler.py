"""`simpler`: how SIMPLER's simulated WidowX is driven and read, and what that is in `bridge_v2`.

State [8]: [x, y, z metres, quaternion w, x, y, z of R, gripper 0 closed .. 1 open], in the robot's frame.
Action [7]: [dx, dy, dz metres, rotation vector [3] radians about the world axes, gripper -1 closed / +1 open]
on the previous target, not scaled and not clipped: the algebra of bridge_v2 with the turn written otherwise.
A quaternion is defined everywhere, so nothing here is refused for where the gripper points.

Source: simpler-env/ManiSkill2_real2sim at ef7a4d4, controller `ee_target_delta_pose_align2`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from robot_bridge.arrays import vector
from robot_bridge.conventions import (
    F32,
    F64,
    FINGER_CLOSED,
    FINGER_SPAN,
    GRIPPER_OPEN_ABOVE,
    PROPRIO_DIMS,
    Pose,
    checked_action,
    compose_target,
    euler_of_rotation,
    pose_of_vector,
    rotation_of_euler,
    state_of,
)
from robot_bridge.errors import BadArray
from robot_bridge.turns import SMALLEST_TURN, axis_and_angle, rotation_about

SIMPLER: Final = "simpler"
STATE_DIMS: Final = 8
FINGER_LOW: Final = 0.015  # metres of finger travel that read as gripper 0: the joint's own limits
FINGER_HIGH: Final = 0.037
UNIT_TOLERANCE: Final = 1e-3  # how far a quaternion's length may be from 1


def simpler_state(pose: Pose, finger: float) -> F32:
    """State [8] of a gripper pose and the finger's joint position in metres; w of the quaternion is >= 0."""
    gripper = np.clip((finger - FINGER_LOW) / (FINGER_HIGH - FINGER_LOW), 0.0, 1.0)
    return np.concatenate([pose.position, _quaternion(pose.rotation), [gripper]]).astype(np.float32)


def pose_of_simpler(state: ArrayLike) -> Pose:
    """The gripper pose in a state [8].

    Raises:
        BadArray: not eight finite numbers, or a quaternion that is not of length 1.
    """
    numbers = vector(state, STATE_DIMS, thing="simpler state")
    quaternion = numbers[3:7]
    length = float(np.linalg.norm(quaternion))
    if abs(length - 1.0) > UNIT_TOLERANCE:
        raise BadArray(thing="quaternion", expected="of length 1", found=f"length {length:.4f}")
    return Pose(numbers[:3], _rotation(quaternion / length))


def bridge_state_of_simpler(state: ArrayLike) -> F32:
    """The bridge_v2 state [7] of a state [8].

    Raises:
        BadArray: not eight finite numbers, or a quaternion that is not of length 1.
    """
    numbers = vector(state, STATE_DIMS, thing="simpler state")
    return state_of(pose_of_simpler(numbers), FINGER_LOW + float(numbers[7]) * (FINGER_HIGH - FINGER_LOW))


def simpler_state_of_bridge(state: ArrayLike) -> F32:
    """The state [8] of a bridge_v2 state [7]; an opening beyond the joint's limits reads as 0 or 1.

    Raises:
        BadArray: not seven finite numbers.
    """
    numbers = vector(state, PROPRIO_DIMS, thing="bridge_v2 state")
    return simpler_state(pose_of_vector(numbers), FINGER_CLOSED + FINGER_SPAN * float(numbers[6]))


def simpler_action_of_bridge(action: ArrayLike) -> F32:
    """The action [7] of a bridge_v2 action [7]; the gripper becomes -1 or +1.

    Raises:
        BadAction: not seven finite numbers.
    """
    move = checked_action(action)
    axis, angle = axis_and_angle(rotation_of_euler(move[3:6].astype(np.float64)))
    gripper = 2.0 * float(move[6] > GRIPPER_OPEN_ABOVE) - 1.0
    return np.concatenate([move[:3], axis * angle, [gripper]]).astype(np.float32)


def bridge_action_of_simpler(action: ArrayLike) -> F32:
    """The bridge_v2 action [7] of an action [7]; the gripper becomes 0 or 1.

    Raises:
        BadAction: not seven finite numbers.
    """
    move = checked_action(action)
    turn = euler_of_rotation(_rotation_of_vector(move[3:6].astype(np.float64)))
    return np.concatenate([move[:3], turn, [float(move[6] > 0.0)]]).astype(np.float32)


def compose_simpler(previous: Pose, action: ArrayLike) -> Pose:
    """The target that an action [7] asks for, given the target before it.

    Raises:
        BadAction: not seven finite numbers.
    """
    return compose_target(previous, bridge_action_of_simpler(action))


def _rotation_of_vector(vector: F64) -> F64:
    angle = float(np.linalg.norm(vector))
    return np.eye(3) if angle < SMALLEST_TURN else rotation_about(vector / angle, angle)


def _quaternion(rotation: F64) -> F64:
    axis, angle = axis_and_angle(rotation)
    return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * axis)])


def _rotation(quaternion: F64) -> F64:
    """Rotation matrix [3, 3] of a unit quaternion [4], w first."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
