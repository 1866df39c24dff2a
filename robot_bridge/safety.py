"""The station's pipeline: what was asked goes in, what the arm may be told comes out. It knows no robot.

Stages, in this order: finite and shape -> per-step clamp -> compose the target -> box and cone -> inverse
kinematics, joint limits and keep-out -> speeds -> accelerations -> effort guard. Each stage can only make the
motion smaller, sets its bit in the step's flags, and is counted. Geometry of the arm is the driver's
`ArmModel`; a driver that has none refuses what it cannot reach, and says so with `ik_ok`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_bridge.conventions import (
    CONTROL_HZ,
    F32,
    F64,
    Pose,
    checked_action,
    compose_target,
    delta_between,
)
from robot_bridge.drivers.driver import ArmModel, RobotDriver, Sample, StepOutcome
from robot_bridge.effort import EffortGuard
from robot_bridge.limits import Corner, Limits
from robot_bridge.momentum import Momentum
from robot_bridge.reach import Motion, Reach
from robot_bridge.turns import ROTATION_TOLERANCE, same_pose, shortened, within_cone

__all__ = [
    "CLIPPED_ACCEL",
    "CLIPPED_BOX",
    "CLIPPED_COLLISION",
    "CLIPPED_EFFORT",
    "CLIPPED_GRIPPER",
    "CLIPPED_ROT",
    "CLIPPED_SPEED",
    "CLIPPED_TILT",
    "CLIPPED_XYZ",
    "FALLBACK",
    "HELD",
    "IK_FAILED",
    "ROTATION_TOLERANCE",
    "STAGES",
    "Corner",
    "Limits",
    "SafeCommand",
    "SafetyPipeline",
    "executed_action",
]

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
CLIPPED_ACCEL: Final = 2048
STAGES: Final[dict[str, int]] = {
    "xyz": CLIPPED_XYZ,
    "rot": CLIPPED_ROT,
    "box": CLIPPED_BOX,
    "gripper": CLIPPED_GRIPPER,
    "tilt": CLIPPED_TILT,
    "ik": IK_FAILED,
    "collision": CLIPPED_COLLISION,
    "speed": CLIPPED_SPEED,
    "accel": CLIPPED_ACCEL,
    "effort": CLIPPED_EFFORT,
}

REST: Final = 1e-9  # metres and radians of rounding that are no motion


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SafeCommand:
    """What the arm may be told.

    Attributes:
        target: the pose to hold next.
        gripper: 0 closed .. 1 open.
        executed: the bridge_v2 action [7] that this amounts to; what was asked, to the bit, when no flag is
            set.
        flags: bits of what was cut.
        joints: the commanded joints [J] of the target, radians; None where the arm's geometry is not known.
    """

    target: Pose
    gripper: float
    executed: F32
    flags: int
    joints: F64 | None = None


class SafetyPipeline:
    """Applies one episode's limits, action after action, and counts what each stage cut.

    Args:
        limits: of this episode.
        arm: the geometry of the arm, or None when the driver has none: then reach, keep-out and joint speeds
            are not judged here.
        control_hz: actions per second; turns speeds into the longest step.

    An arm is told nothing before `begin` said where its joints are: until then every motion is IK_FAILED.
    """

    def __init__(
        self, limits: Limits, *, arm: ArmModel | None = None, control_hz: float = CONTROL_HZ
    ) -> None:
        self.limits = limits
        self.counts = dict.fromkeys(STAGES, 0)
        self._guard = EffortGuard(limits.effort_max_mA)
        self._reach = Reach(
            arm,
            step_m=limits.ee_speed_max / control_hz,
            step_rad=limits.joint_speed_max / control_hz,
            momentum=Momentum(
                gain_m=limits.ee_accel_max / control_hz**2, gain_rad=limits.joint_accel_max / control_hz**2
            ),
        )
        self._effort: NDArray[np.floating] | None = None
        self._told: tuple[Motion, Pose, int] | None = None  # what, from where, its flags

    @classmethod
    def of_station(cls, driver: RobotDriver, task_id: str) -> SafetyPipeline:
        """As a station makes it where nobody asks for narrower limits; for episodes without a station.

        Raises:
            UnknownTask: the driver has no such task.
        """
        robot = driver.description
        return cls(robot.limits(task_id), arm=driver.arm, control_hz=robot.control_hz)

    def begin(self, first: Sample) -> None:
        """An episode starts with this observation: its joints and currents are where the arm is."""
        self._guard.clear()
        self._reach.begin(first.qpos.astype(np.float64))
        self._effort, self._told = first.effort_mA, None

    def apply(
        self,
        previous: Pose,
        action: ArrayLike,
        *,
        effort_mA: NDArray[np.floating] | None = None,  # noqa: N803 - mA is the unit
    ) -> SafeCommand:
        """Make one bridge_v2 action [7] safe, given the target that the arm holds now.

        A target that starts outside the box or the cone may stay or come in, never go further out.
        `effort_mA` [7] are the newest currents; without them those of the newest sample count.

        Raises:
            BadAction: not seven finite numbers; nothing is counted.
        """
        asked = checked_action(action)
        move, flags = self._clamped(asked)
        free = Pose(previous.position + move[:3], compose_target(previous, move).rotation)
        kept, cut = self._kept_in(previous, free)
        motion, stopped = self._followed(previous, kept)
        effort = self._effort if effort_mA is None else effort_mA
        if effort is not None:
            self._guard.read(effort, held=previous)
        motion, eased = self._eased(previous, motion)
        flags |= cut | stopped | eased
        executed = asked if not flags else executed_action(previous, motion.target, float(move[6]))
        self._told = (motion, previous, flags)
        self._count(flags)
        return SafeCommand(
            target=motion.target, gripper=float(move[6]), executed=executed, flags=flags, joints=motion.joints
        )

    def took(self, outcome: StepOutcome) -> int:
        """Take what the driver made of the last command; gives the flags to add to those of the command.

        IK_FAILED when the driver refused a target; it is counted once for a step, whoever found it.
        """
        self._effort = outcome.sample.effort_mA
        self._reach.measure(outcome.sample.qpos.astype(np.float64))
        told, self._told = self._told, None
        if outcome.ik_ok:
            if told is not None:
                self._reach.took(told[0], told[1])
            return 0
        self._reach.rest()
        flags = 0 if told is None else told[2]
        self._count(IK_FAILED & ~flags)
        return IK_FAILED

    def drive(self, driver: RobotDriver, action: ArrayLike) -> tuple[SafeCommand, StepOutcome]:
        """One step of an episode without a station: the action made safe, and what the driver made of it.

        Raises:
            BadAction: not seven finite numbers; nothing moved.
            DriverError: what the driver raises.
        """
        command = self.apply(driver.target, action)
        outcome = driver.step(command.target, command.gripper)
        self.took(outcome)
        return command, outcome

    def rest(self) -> None:
        """The arm was held between two steps: the next one speeds up from rest."""
        self._reach.rest()

    def _clamped(self, asked: F32) -> tuple[F64, int]:
        """The action [7] cut to the largest step, and the bits of what was cut."""
        move = asked.astype(np.float64)
        step = float(np.float32(self.limits.step_xyz_max))  # actions are float32, so their limit is
        move[:3] = np.clip(move[:3], -step, step)
        flags = CLIPPED_XYZ * int((move[:3] != asked[:3]).any())
        move[3:6], turned = shortened(move[3:6], self.limits.step_rot_max)
        flags |= CLIPPED_ROT * int(turned)
        move[6] = np.clip(move[6], 0.0, 1.0)
        return move, flags | CLIPPED_GRIPPER * int(move[6] != asked[6])

    def _kept_in(self, previous: Pose, free: Pose) -> tuple[Pose, int]:
        """The target kept in the box and its turn in the cone."""
        low = np.minimum(self.limits.box_low, previous.position)
        high = np.maximum(self.limits.box_high, previous.position)
        position = np.clip(free.position, low, high)
        rotation = within_cone(previous.rotation, free.rotation, self.limits.tilt_max)
        flags = CLIPPED_BOX * int((position != free.position).any())
        flags |= CLIPPED_TILT * int(rotation is not free.rotation)
        return (Pose(position, rotation) if flags else free), flags

    def _followed(self, previous: Pose, target: Pose) -> tuple[Motion, int]:
        """As much of the way to a target as the arm can follow: reach, keep-out, speeds, accelerations."""
        if same_pose(previous, target, within=REST):
            return replace(self._reach.stay(previous), target=target), 0
        motion = self._reach.reachable(previous, target)
        if motion is None:
            return self._reach.stay(previous), IK_FAILED
        clear = self._reach.clear(previous, motion)
        slow = self._reach.slow(previous, clear)
        gentle = self._reach.gentle(previous, slow)
        flags = CLIPPED_COLLISION * int(clear is not motion) | CLIPPED_SPEED * int(slow is not clear)
        return gentle, flags | CLIPPED_ACCEL * int(gentle is not slow)

    def _eased(self, previous: Pose, motion: Motion) -> tuple[Motion, int]:
        """What the effort guard leaves of a motion; what it turns round must pass the stages before again."""
        eased = self._guard.eased(previous, motion.target)
        if same_pose(motion.target, eased, within=REST):
            return motion, 0
        kept, _ = self._kept_in(previous, eased)
        followed, _ = self._followed(previous, kept)
        return followed, CLIPPED_EFFORT

    def _count(self, flags: int) -> None:
        for stage, bit in STAGES.items():
            self.counts[stage] += int(bool(flags & bit))


def executed_action(previous: Pose, target: Pose, gripper: float) -> F32:
    """The bridge_v2 action [7] that leads from one target to the next: what was really asked of the arm."""
    return np.append(delta_between(previous, target), gripper).astype(np.float32)
