"""The station's pipeline: what was asked goes in, what the arm may be told comes out. It knows no robot.

Stages, in this order: finite and shape -> per-step clamp -> compose the target -> box. Each stage can only
make the motion smaller, sets its bit in the step's flags, and is counted. Inverse kinematics and joint limits
come after it, in the driver, which reports `ik_ok`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from robot_bridge.conventions import (
    F32,
    F64,
    STEP_ROT_MAX,
    STEP_XYZ_MAX,
    Pose,
    checked_action,
    compose_target,
    delta_between,
    euler_of_rotation,
    rotation_angle,
    rotation_of_euler,
)
from robot_bridge.errors import LimitsViolation

CLIPPED_XYZ: Final = 1  # bits of a step's flags
CLIPPED_ROT: Final = 2
CLIPPED_BOX: Final = 4
CLIPPED_GRIPPER: Final = 8
IK_FAILED: Final = 16
CLIPPED_SPEED: Final = 32
CLIPPED_EFFORT: Final = 64
CLIPPED_TILT: Final = 128
CLIPPED_COLLISION: Final = 256
HELD: Final = 512  # the dead-man held the arm before this step; no stage of the pipeline
FALLBACK: Final = 1024  # the policy did not answer in time, a hold action went out; no stage either
STAGES: Final[dict[str, int]] = {
    "xyz": CLIPPED_XYZ,
    "rot": CLIPPED_ROT,
    "box": CLIPPED_BOX,
    "gripper": CLIPPED_GRIPPER,
    "ik": IK_FAILED,
}

ROTATION_TOLERANCE: Final = 1e-6  # radians of float32 rounding that do not count as too far

Corner: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one episode allows: a box for the target (metres, base frame) and the largest step.

    step_xyz_max is metres along each axis, step_rot_max the length of the rotation vector in radians.

    Raises:
        LimitsViolation: not finite, a box without inside, or a step that is not positive.
    """

    box_low: Corner
    box_high: Corner
    step_xyz_max: float = STEP_XYZ_MAX
    step_rot_max: float = STEP_ROT_MAX

    def __post_init__(self) -> None:
        numbers = (*self.box_low, *self.box_high, self.step_xyz_max, self.step_rot_max)
        if len(numbers) != 8 or not np.isfinite(numbers).all():
            raise LimitsViolation(thing="limits", expected="finite numbers", found=str(numbers))
        if any(low >= high for low, high in zip(self.box_low, self.box_high, strict=True)):
            found = f"{self.box_low} to {self.box_high}"
            raise LimitsViolation(thing="box", expected="low below high on every axis", found=found)
        if self.step_xyz_max <= 0 or self.step_rot_max <= 0:
            found = f"{self.step_xyz_max} m, {self.step_rot_max} rad"
            raise LimitsViolation(thing="largest step", expected="above 0", found=found)

    def narrowed_to(self, wanted: Limits) -> Limits:
        """The wanted limits, when they lie inside these.

        Raises:
            LimitsViolation: something wanted is wider than allowed here.
        """
        for thing, allowed, asked in (
            ("step_xyz_max", self.step_xyz_max, wanted.step_xyz_max),
            ("step_rot_max", self.step_rot_max, wanted.step_rot_max),
            *zip(("box_high x", "box_high y", "box_high z"), self.box_high, wanted.box_high, strict=True),
        ):
            if asked > allowed:
                raise LimitsViolation(thing=thing, expected=f"at most {allowed}", found=asked)
        for axis, allowed, asked in zip("xyz", self.box_low, wanted.box_low, strict=True):
            if asked < allowed:
                raise LimitsViolation(thing=f"box_low {axis}", expected=f"at least {allowed}", found=asked)
        return wanted

    def digest(self) -> str:
        """sha256 hex of these numbers; episodes name it, so that one knows under which limits they ran."""
        numbers = [self.box_low, self.box_high, self.step_xyz_max, self.step_rot_max]
        return hashlib.sha256(json.dumps(numbers).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SafeCommand:
    """What the arm may be told: target, gripper 0..1, the action this amounts to [7], and the flags."""

    target: Pose
    gripper: float
    executed: F32
    flags: int


class SafetyPipeline:
    """Applies one episode's limits, action after action, and counts what each stage cut."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.counts = dict.fromkeys(STAGES, 0)

    def apply(self, previous: Pose, action: ArrayLike) -> SafeCommand:
        """Make one bridge_v2 action [7] safe, given the target that the arm holds now.

        A target that starts outside the box may stay or come in, never go further out.

        Raises:
            BadAction: not seven finite numbers; nothing is counted.
        """
        asked = checked_action(action)
        move = asked.astype(np.float64)
        step = float(np.float32(self.limits.step_xyz_max))  # actions are float32, so their limit is
        move[:3] = np.clip(move[:3], -step, step)
        flags = CLIPPED_XYZ * int((move[:3] != asked[:3]).any())
        move[3:6], turned = _clamp_rotation(move[3:6], self.limits.step_rot_max)
        flags |= CLIPPED_ROT * int(turned)
        move[6] = np.clip(move[6], 0.0, 1.0)
        flags |= CLIPPED_GRIPPER * int(move[6] != asked[6])

        free = Pose(previous.position + move[:3], compose_target(previous, move).rotation)
        target = self._into_box(free, previous)
        flags |= CLIPPED_BOX * int((target.position != free.position).any())
        executed = asked if not flags else executed_action(previous, target, float(move[6]))
        self._count(flags)
        return SafeCommand(target=target, gripper=float(move[6]), executed=executed, flags=flags)

    def count_ik_failure(self) -> None:
        """The driver could not take the target; counted like any other stage."""
        self._count(IK_FAILED)

    def _into_box(self, target: Pose, previous: Pose) -> Pose:
        low = np.minimum(self.limits.box_low, previous.position)
        high = np.maximum(self.limits.box_high, previous.position)
        return Pose(np.clip(target.position, low, high), target.rotation)

    def _count(self, flags: int) -> None:
        for stage, bit in STAGES.items():
            self.counts[stage] += int(bool(flags & bit))


def executed_action(previous: Pose, target: Pose, gripper: float) -> F32:
    """The bridge_v2 action [7] that leads from one target to the next: what was really asked of the arm."""
    return np.append(delta_between(previous, target), gripper).astype(np.float32)


def _clamp_rotation(rpy: F64, limit: float) -> tuple[F64, bool]:
    """Shorten a rotation given as roll, pitch, yaw [3] to `limit` radians, about its own axis."""
    rotation = rotation_of_euler(rpy)
    angle = rotation_angle(rotation)
    if angle <= limit + ROTATION_TOLERANCE:
        return rpy, False
    return euler_of_rotation(_rotation_about(_axis_of(rotation), limit)), True


def _axis_of(rotation: F64) -> F64:
    """Unit axis [3] of a rotation matrix that is not the identity; also right at half a turn."""
    values, vectors = np.linalg.eigh((rotation + rotation.T) / 2.0)
    axis = vectors[:, int(np.argmax(values))]
    twist = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    return np.asarray(axis if float(axis @ twist) >= 0 else -axis)


def _rotation_about(axis: F64, angle: float) -> F64:
    """Rodrigues' formula: rotation matrix [3, 3] of `angle` radians about a unit axis [3]."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross))
