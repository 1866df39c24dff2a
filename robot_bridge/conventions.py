"""What the seven numbers of an action and of a state mean, and the only code that converts them.

Two conventions live here: `bridge_v2` (how the arm is commanded and how episodes are stored) and the
ten-number action of WorldGym's world model. Frames, episodes and limits do not.

bridge_v2 action [7]: [dx, dy, dz metres, droll, dpitch, dyaw radians, gripper 0 closed .. 1 open]. The delta
is along and about the *world* axes, about the gripper, on the *previous target* (not on the measured pose).
bridge_v2 state [7]: [x, y, z metres, roll, pitch, yaw radians of R·D0ᵀ, gripper]; roll and pitch
are 0 when the gripper points straight down.

Source: Walke et al. 2023 (BridgeData V2, arXiv:2308.12952) for bridge_v2; Quevedo et al. 2025 (WorldGym,
arXiv:2506.00613) for the ten-number action.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_bridge.arrays import finite
from robot_bridge.errors import BadAction, BadArray

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
StateConvention: TypeAlias = Literal["bridge_v2"]

BRIDGE_V2: Final = "bridge_v2"
ACTION_DIMS: Final = 7
PROPRIO_DIMS: Final = 7
JOINT_DIMS: Final = 8  # six arm joints and two fingers
WORLD_MODEL_ACTION_DIMS: Final = 10
CONTROL_HZ: Final = 5.0
IMAGE_SIZE: Final = 256  # pixels, square, on the wire and in storage

STEP_XYZ_MAX: Final = 0.05  # metres per step, the action box of BridgeData V2's own recordings
STEP_ROT_MAX: Final = 0.25  # radians per step, as above

FINGER_CLOSED: Final = 0.010  # metres of left_finger that read as gripper 0
FINGER_SPAN: Final = 0.025  # metres from there to gripper 1
GRIPPER_STATE_MAX: Final = 1.2  # the finger can open a little past 1

XYZ_SCALE: Final = 35.0  # world-model units per metre: 3.5 units over the 0.10 m range
ROT_SCALE: Final = 5.6  # world-model units per radian: 2.8 units over the 0.5 rad range
XYZ_CLIP: Final = 1.74  # world-model units, as the training data was clipped
ROT_CLIP: Final = 1.39
GRIPPER_OPEN_ABOVE: Final = 0.5

# Rotation of a gripper that points straight down; the state's Euler angles are measured from it.
DEFAULT_ROTATION: Final[F64] = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
DEFAULT_ROTATION.setflags(write=False)

# The action that stands for "no conditioning": zeros, with the last number as the flag. Not "do not move".
NULL_WORLD_MODEL_ACTION: Final[F32] = np.array([0.0] * 9 + [1.0], dtype=np.float32)
NULL_WORLD_MODEL_ACTION.setflags(write=False)

STRAIGHT_UP: Final = 1e-7  # cosine of a pitch below which roll and yaw cannot be told apart
ORTHONORMAL_TOLERANCE: Final = 1e-6  # largest deviation of R·Rᵀ from identity that still counts as a rotation


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Where the gripper is, in the robot's base frame: position [3] in metres, rotation matrix [3, 3].

    Both arrays are copied, float64 and read-only.

    Raises:
        BadArray: a wrong shape, a number that is not finite, or a matrix that is not a rotation.
    """

    position: F64
    rotation: F64

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", _fixed(self.position, (3,), thing="pose position"))
        object.__setattr__(self, "rotation", _fixed(self.rotation, (3, 3), thing="pose rotation"))
        deviation = float(np.abs(self.rotation @ self.rotation.T - np.eye(3)).max())
        if deviation > ORTHONORMAL_TOLERANCE or np.linalg.det(self.rotation) < 0:
            raise BadArray(
                thing="pose rotation",
                expected="a proper rotation matrix",
                found=f"a matrix that misses one by {deviation:.1e}",
            )


def rotation_of_euler(rpy: ArrayLike) -> F64:
    """Rotation matrix [3, 3] of roll, pitch, yaw [3] in radians about the fixed x, then y, then z axis."""
    roll, pitch, yaw = np.asarray(rpy, dtype=np.float64)
    cr, sr, cp, sp, cy, sy = (
        np.cos(roll),
        np.sin(roll),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(yaw),
        np.sin(yaw),
    )
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def euler_of_rotation(rotation: F64) -> F64:
    """Roll, pitch, yaw [3] in radians of a rotation matrix [3, 3]; inverse of `rotation_of_euler`.

    Pitch is in [-pi/2, pi/2]. At its ends only roll ± yaw is defined; roll then takes all of it and yaw is 0.
    """
    sin_pitch, cos_pitch = -float(rotation[2, 0]), float(np.hypot(rotation[0, 0], rotation[1, 0]))
    pitch = np.arctan2(sin_pitch, cos_pitch)  # exact near its ends, where an arc sine is not
    if cos_pitch < STRAIGHT_UP:
        roll = np.arctan2(np.sign(sin_pitch) * rotation[0, 1], rotation[1, 1])
        return np.array([roll, pitch, 0.0])
    roll = np.arctan2(rotation[2, 1], rotation[2, 2])
    yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
    return np.array([roll, pitch, yaw])


def rotation_angle(rotation: F64) -> float:
    """Length in radians of the rotation vector of a rotation matrix [3, 3], in [0, pi]."""
    sine = np.linalg.norm(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    return float(np.arctan2(sine, np.trace(rotation) - 1.0))


def compose_target(previous: Pose, action: ArrayLike) -> Pose:
    """The target that a bridge_v2 action [7] asks for, given the target before it.

    The rotation turns about the gripper, so it leaves the position alone; the gripper's own number is not
    part of a pose.

    Raises:
        BadAction: not seven finite numbers.
    """
    move = checked_action(action)
    rotation = rotation_of_euler(move[3:6]) @ previous.rotation
    return Pose(previous.position + move[:3].astype(np.float64), _orthonormal(rotation))


def delta_between(previous: Pose, target: Pose) -> F64:
    """The first six numbers of the bridge_v2 action that leads from one target to the next; [6]."""
    turn = target.rotation @ previous.rotation.T
    return np.concatenate([target.position - previous.position, euler_of_rotation(turn)])


def achieved_actions(states: ArrayLike) -> F32:
    """What measured bridge_v2 states [T+1, 7] say was done: actions [T, 7], the gripper as it was afterwards.

    Raises:
        BadArray: not at least two rows of seven finite numbers.
    """
    rows = finite(states, thing="states")
    if rows.ndim != 2 or rows.shape[1] != PROPRIO_DIMS or len(rows) < 2:
        raise BadArray(thing="states", expected="[T + 1, 7] with T >= 1", found=f"shape {rows.shape}")
    poses = [pose_of_vector(row) for row in rows]
    moves = [delta_between(before, after) for before, after in pairwise(poses)]
    return np.column_stack([np.stack(moves), rows[1:, 6]]).astype(np.float32)


def state_of(pose: Pose, finger: float) -> F32:
    """bridge_v2 state [7] of a gripper pose and the left finger's joint position in metres."""
    opening = np.clip((finger - FINGER_CLOSED) / FINGER_SPAN, 0.0, GRIPPER_STATE_MAX)
    return pose_vector(pose, float(opening))


def pose_vector(pose: Pose, gripper: float) -> F32:
    """A pose and a gripper number in the layout of a bridge_v2 state, [7]."""
    rpy = euler_of_rotation(pose.rotation @ DEFAULT_ROTATION.T)
    return np.concatenate([pose.position, rpy, [gripper]]).astype(np.float32)


def pose_of_vector(vector: ArrayLike) -> Pose:
    """The pose in a bridge_v2 state or target vector [7]; its gripper number is left out."""
    numbers = finite(vector, thing="state vector")
    return Pose(numbers[:3], _orthonormal(rotation_of_euler(numbers[3:6]) @ DEFAULT_ROTATION))


def checked_action(action: ArrayLike) -> F32:
    """One bridge_v2 action as float32 [7]; checked, not limited.

    Raises:
        BadAction: not seven finite numbers.
    """
    checked = finite(action, thing="action", error=BadAction)
    if checked.shape != (ACTION_DIMS,):
        raise BadAction(thing="action", expected="seven numbers", found=f"shape {checked.shape}")
    if np.abs(checked).max() > np.finfo(np.float32).max:
        raise BadAction(thing="action", expected="numbers that fit float32", found="one that overflows")
    return checked.astype(np.float32)


def to_world_model_action(actions: ArrayLike) -> F32:
    """bridge_v2 actions [..., 7] as WorldGym's ten numbers [..., 10].

    xyz ×35 clipped to ±1.74, rotation ×5.6 clipped to ±1.39, gripper -1 open / +1 closed (open above 0.5),
    three zeros for the base that a WidowX does not have.

    Raises:
        BadAction: the last axis is not 7, or a number is not finite.
    """
    numbers = finite(actions, thing="actions", error=BadAction)
    _last_axis(numbers, ACTION_DIMS)
    out = np.zeros((*numbers.shape[:-1], WORLD_MODEL_ACTION_DIMS), dtype=np.float32)
    out[..., :3] = np.clip(numbers[..., :3] * XYZ_SCALE, -XYZ_CLIP, XYZ_CLIP)
    out[..., 3:6] = np.clip(numbers[..., 3:6] * ROT_SCALE, -ROT_CLIP, ROT_CLIP)
    out[..., 6] = np.where(numbers[..., 6] > GRIPPER_OPEN_ABOVE, -1.0, 1.0)
    return out


def from_world_model_action(actions: ArrayLike) -> F32:
    """WorldGym's ten numbers [..., 10] as bridge_v2 actions [..., 7]; inverse of `to_world_model_action`.

    Inside the clip range the inverse is exact up to float32 rounding; the gripper comes back as 0 or 1.

    Raises:
        BadAction: the last axis is not 10, or a number is not finite.
    """
    numbers = finite(actions, thing="world-model actions", error=BadAction)
    _last_axis(numbers, WORLD_MODEL_ACTION_DIMS)
    out = np.empty((*numbers.shape[:-1], ACTION_DIMS), dtype=np.float32)
    out[..., :3] = numbers[..., :3] / XYZ_SCALE
    out[..., 3:6] = numbers[..., 3:6] / ROT_SCALE
    out[..., 6] = np.where(numbers[..., 6] < 0.0, 1.0, 0.0)
    return out


def _last_axis(numbers: F64, dims: int) -> None:
    if numbers.ndim == 0 or numbers.shape[-1] != dims:
        raise BadAction(thing="actions", expected=f"a last axis of {dims}", found=f"shape {numbers.shape}")


def _fixed(values: ArrayLike, shape: tuple[int, ...], *, thing: str) -> F64:
    numbers = finite(values, thing=thing).copy()
    if numbers.shape != shape:
        raise BadArray(thing=thing, expected=f"shape {shape}", found=f"shape {numbers.shape}")
    numbers.setflags(write=False)
    return numbers


def _orthonormal(rotation: F64) -> F64:
    """Nearest rotation matrix: a thousand composed steps must not drift away from one."""
    left, _, right = np.linalg.svd(rotation)
    return np.asarray(left @ right)
