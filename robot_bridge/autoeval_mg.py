"""`autoeval_mg`: how AutoEval's arms are driven and read, and what that is in `bridge_v2`.

State [8]: [x, y, z metres, roll, pitch, yaw radians of R itself, 0, gripper 0.07 closed .. 0.39 open]. A
gripper that points straight down has pitch pi/2, where roll and yaw turn about the same axis.

Action [7]: as bridge_v2, but the three angles are *added* to the roll, pitch and yaw of the last command,
which is another turn than the one that bridge_v2 means by them. The gripper opens above 0.5. Requests and
episodes of AutoEval are not here.

Source: zhouzypaul/auto_eval at 3ea3ff4 and rail-berkeley/manipulator_gym at c547d41.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from robot_bridge.arrays import finite, vector
from robot_bridge.conventions import (
    ACTION_DIMS,
    F32,
    F64,
    FINGER_CLOSED,
    FINGER_SPAN,
    GRIPPER_OPEN_ABOVE,
    PROPRIO_DIMS,
    STRAIGHT_UP,
    Pose,
    checked_action,
    delta_between,
    euler_of_rotation,
    pose_of_vector,
    rotation_of_euler,
    state_of,
)
from robot_bridge.errors import BadAction, BadArray, ConventionSingular
from robot_bridge.limits import Corner

AUTOEVAL_MG: Final = "autoeval_mg"
SOURCE: Final = "c547d41"  # of manipulator_gym, whose code this repeats
STATE_DIMS: Final = 8
ACTION_CLIP: Final = 2.0  # of every number of an action, before anything else
EEF_CLIP: Final = 0.02  # metres per axis and step

MG_FINGER_SPAN: Final = 0.070  # metres from gripper 0, bridge_v2's own, to 1; the fingers open to 0.386

# Radians around pitch ±pi/2 where a state is not written: there roll and yaw magnify the rounding of float32
# a hundredfold, and at it they are not defined.
SINGULAR_WITHIN: Final = 0.01


def mg_state(pose: Pose, finger: float) -> F32:
    """State [8] of a gripper pose and the left finger's joint position in metres, as the robot says it.

    At the singularity the robot says something too: roll takes all of the turn, yaw is 0.
    """
    gripper = (finger - FINGER_CLOSED) / MG_FINGER_SPAN
    rpy = euler_of_rotation(pose.rotation)
    return np.concatenate([pose.position, rpy, [0.0, gripper]]).astype(np.float32)


def mg_state_of_bridge(state: ArrayLike) -> F32:
    """The state [8] of a bridge_v2 state [7].

    Raises:
        BadArray: not seven finite numbers.
        ConventionSingular: the gripper points straight down or up, or within `SINGULAR_WITHIN` of it.
    """
    numbers = vector(state, PROPRIO_DIMS, thing="bridge_v2 state")
    pose = pose_of_vector(numbers)
    pitch = float(euler_of_rotation(pose.rotation)[1])
    missing = np.pi / 2 - abs(pitch)
    if missing < SINGULAR_WITHIN:
        reason = (
            f"pitch {pitch:.4f} is {missing:.4f} rad from a quarter turn, at least {SINGULAR_WITHIN} is "
            "needed; there roll and yaw turn about the same axis"
        )
        raise ConventionSingular(thing="this state", convention=AUTOEVAL_MG, reason=reason)
    return mg_state(pose, FINGER_CLOSED + FINGER_SPAN * float(numbers[6]))


def bridge_state_of_mg(state: ArrayLike) -> F32:
    """The bridge_v2 state [7] of a state [8]; defined everywhere, also at the singularity.

    Raises:
        BadArray: not eight finite numbers.
    """
    numbers = vector(state, STATE_DIMS, thing="autoeval_mg state")
    return state_of(pose_of_mg(numbers), FINGER_CLOSED + MG_FINGER_SPAN * float(numbers[7]))


def pose_of_mg(state: ArrayLike) -> Pose:
    """The gripper pose in a state [8].

    Raises:
        BadArray: not eight finite numbers.
    """
    numbers = vector(state, STATE_DIMS, thing="autoeval_mg state")
    return Pose(numbers[:3], rotation_of_euler(numbers[3:6]))


def compose_mg(previous: Pose, action: ArrayLike) -> Pose:
    """The pose that an action [7] commands after the last command: position and Euler angles are added.

    Nothing is clipped; see `MgTransform` for what AutoEval makes of an action.

    Raises:
        BadAction: not seven finite numbers.
    """
    move = checked_action(action).astype(np.float64)
    rpy = euler_of_rotation(previous.rotation) + move[3:6]
    return Pose(previous.position + move[:3], rotation_of_euler(rpy))


@dataclass(frozen=True, slots=True, kw_only=True)
class MgTransform:
    """What AutoEval does to an action before the arm gets it, for a task with this workspace box (metres).

    In this order: every number is clipped to ±2; the translation is clipped so that the *measured* gripper
    plus the translation stays in the box; then to ±eef_clip along each axis; what is left is added to the
    last command. A gripper measured outside the box is sent back in, by at most eef_clip.
    """

    box_low: Corner
    box_high: Corner
    eef_clip: float = EEF_CLIP

    @property
    def id(self) -> str:
        """Names this transform with all its numbers; episodes carry it as transform_id."""
        low, high = (",".join(f"{number:g}" for number in corner) for corner in (self.box_low, self.box_high))
        return f"{AUTOEVAL_MG}@{SOURCE}(eef_clip={self.eef_clip:g},box={low}:{high})"

    def apply(self, previous: Pose, action: ArrayLike, *, measured: Pose | None = None) -> Pose:
        """The pose that is commanded after `previous`, the last command, for a policy's action [7].

        `measured` is where the gripper really is; None: exactly at the last command.

        Raises:
            BadAction: not seven finite numbers.
        """
        move = np.clip(checked_action(action).astype(np.float64), -ACTION_CLIP, ACTION_CLIP)
        here = (previous if measured is None else measured).position
        boxed = np.clip(here + move[:3], self.box_low, self.box_high) - here
        move[:3] = np.clip(boxed, -self.eef_clip, self.eef_clip)
        return compose_mg(previous, move)

    def predict(self, raw_actions: ArrayLike, states_mg: ArrayLike) -> F32:
        """What probably ran in an episode, as bridge_v2 actions [T, 7]: AutoEval does not tell.

        The commands are followed from the first measured pose on, since the robot adds to its last command
        and not to what it measures; the box is applied to the measured pose of each step. The gripper comes
        back as 0 or 1, as the robot is told.

        Args:
            raw_actions: [T, 7], what the policy answered.
            states_mg: [T + 1, 8] or, without the last, [T, 8].

        Raises:
            BadAction: actions that are not [T, 7] finite numbers with T >= 1.
            BadArray: states of another length, or not finite.
        """
        actions = _rows(raw_actions, ACTION_DIMS, thing="actions", error=BadAction)
        states = _rows(states_mg, STATE_DIMS, thing="states", error=BadArray)
        if len(states) not in (len(actions), len(actions) + 1):
            expected = f"one for each of {len(actions)} actions, and perhaps one more"
            raise BadArray(thing="states", expected=expected, found=str(len(states)))
        commanded, executed = pose_of_mg(states[0]), np.empty((len(actions), ACTION_DIMS), dtype=np.float32)
        for index, action in enumerate(actions):
            after = self.apply(commanded, action, measured=pose_of_mg(states[index]))
            executed[index, :6] = delta_between(commanded, after)
            executed[index, 6] = float(action[6] > GRIPPER_OPEN_ABOVE)
            commanded = after
        return executed


def compensate(action: ArrayLike, current: Pose) -> F32:
    """The action [7] that makes AutoEval turn the gripper as a bridge_v2 action [7] means it.

    A rotation has two triples of Euler angles, (r, p, y) and (r + pi, pi - p, y + pi), and a whole line of
    them at the singularity; the difference to the robot's own angles that changes least is sent. Translation
    and gripper stay as they are. The result is exact as long as no number exceeds `ACTION_CLIP`.

    Raises:
        BadAction: not seven finite numbers.
    """
    move = checked_action(action)
    wanted = rotation_of_euler(move[3:6].astype(np.float64)) @ current.rotation
    here = euler_of_rotation(current.rotation)
    changes = [_wrapped(rpy - here) for rpy in _euler_branches(wanted, near=here)]
    best = min(changes, key=lambda change: float(change @ change))
    return np.concatenate([move[:3], best, move[6:]]).astype(np.float32)


def _euler_branches(rotation: F64, *, near: F64) -> tuple[F64, ...]:
    """Triples [3] of Euler angles of one rotation matrix; at the singularity the one nearest to `near`."""
    roll, pitch, yaw = euler_of_rotation(rotation)
    branches = (
        np.array([roll, pitch, yaw]),
        np.array([roll + np.pi, np.pi - pitch, yaw + np.pi]),
    )
    if np.cos(pitch) > STRAIGHT_UP:
        return branches
    sign = np.sign(pitch)  # only roll - sign * yaw is defined: both give way by half
    missing = float(_wrapped(np.array([(roll - sign * yaw) - (near[0] - sign * near[2])]))[0])
    return (np.array([near[0] + missing / 2, pitch, near[2] - sign * missing / 2]), *branches)


def _wrapped(angles: F64) -> F64:
    """Angles in [-pi, pi)."""
    return np.asarray((angles + np.pi) % (2 * np.pi) - np.pi)


def _rows(values: ArrayLike, width: int, *, thing: str, error: type[BadArray]) -> F64:
    rows = finite(values, thing=thing, error=error)
    if rows.ndim != 2 or rows.shape[1] != width or not len(rows):
        raise error(thing=thing, expected=f"[T, {width}] with T >= 1", found=f"shape {rows.shape}")
    return rows
