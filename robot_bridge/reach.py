"""Whether the arm can follow a motion, and how much of it within one control period.

It keeps the joints that the arm was told last, finds those for the next target, and shortens a motion that
would touch something or go too fast. It decides nothing about boxes or currents, and moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from robot_bridge.conventions import F64, Pose
from robot_bridge.drivers.driver import ArmModel
from robot_bridge.momentum import Momentum
from robot_bridge.turns import partway, same_pose

LENGTH_TOLERANCE: Final = 1e-7  # metres of float32 rounding that do not count as too fast
COLLISION_HALVINGS: Final = 4  # a motion into the keep-out ends within 1/16 of where it would touch
COLLISION_SHARES: Final = (0.5, 1.0)  # of the joints' way, where the keep-out is asked
SPEED_TRIES: Final = 6
SPEED_MARGIN: Final = 0.95  # the joints' way is not quite straight, so aim a little below the limit
SHORTEST_SHARE: Final = 1e-3  # of a motion; less is no motion


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Motion:
    """Where one step leads: a target and, where the arm is known, the joints [J] that take it there."""

    target: Pose
    joints: F64 | None


class Reach:
    """The joints an arm was told, and what it can be told next. Without an arm only speed is judged."""

    def __init__(
        self, arm: ArmModel | None, *, step_m: float, step_rad: float, momentum: Momentum | None = None
    ) -> None:
        self._arm = arm
        self._step_m, self._step_rad = step_m, step_rad
        self._momentum = momentum or Momentum(gain_m=np.inf, gain_rad=np.inf)
        self._known: tuple[Pose, F64] | None = None
        self._measured: F64 | None = None

    def begin(self, joints: F64) -> None:
        """An episode starts with the arm at these measured joints [at least J]."""
        self._known = None
        self._momentum.rest()
        self.measure(joints)

    def measure(self, joints: F64) -> None:
        """The joints [at least J] as they were read last."""
        if self._arm is not None:
            self._measured = np.asarray(joints, dtype=np.float64)[: len(self._arm.joint_low)]

    def rest(self) -> None:
        """The arm stands still, whatever it was told last."""
        self._momentum.rest()

    def took(self, motion: Motion, start: Pose) -> None:
        """The driver took this motion from `start`: its joints are the ones that the arm is told now."""
        before = self._joints_at(start)
        turned = None if before is None or motion.joints is None else motion.joints - before
        self._momentum.took(start, motion.target, turned)
        if motion.joints is not None:
            self._known = (motion.target, motion.joints)

    def stay(self, previous: Pose) -> Motion:
        """No motion."""
        return Motion(target=previous, joints=self._joints_at(previous))

    def reachable(self, previous: Pose, target: Pose) -> Motion | None:
        """The motion to a target, or None when the arm cannot take that pose from here."""
        if self._arm is None:
            return Motion(target=target, joints=None)
        start = self._joints_at(previous)
        joints = None if start is None else self._solve(target, start)
        return None if joints is None else Motion(target=target, joints=joints)

    def clear(self, previous: Pose, motion: Motion) -> Motion:
        """The motion, ended before the arm would touch itself or the table."""
        if self._is_clear(previous, motion):
            return motion
        best, low, high = self.stay(previous), 0.0, 1.0
        for _ in range(COLLISION_HALVINGS):
            middle = (low + high) / 2
            tried = self.reachable(previous, partway(previous, motion.target, middle))
            free = tried is not None and self._is_clear(previous, tried)
            low, high = (middle, high) if free else (low, middle)
            best = tried if free and tried is not None else best
        return best

    def slow(self, previous: Pose, motion: Motion) -> Motion:
        """The motion, shortened along its own way until gripper and joints keep their speeds."""
        return self._shortened(previous, motion, metres=self._step_m, radians=lambda way: self._step_rad)

    def gentle(self, previous: Pose, motion: Motion) -> Motion:
        """The motion, shortened along its own way until gripper and joints speed up no more than they may."""
        metres = self._momentum.metres(previous, motion.target.position - previous.position)
        return self._shortened(
            previous, motion, metres=metres, radians=lambda way: self._momentum.radians(previous, way)
        )

    def _shortened(
        self, previous: Pose, motion: Motion, *, metres: float, radians: Callable[[F64], F64 | float]
    ) -> Motion:
        """At most so many metres of the gripper, and of the joints what `radians` allows on their way [J]."""
        length = float(np.linalg.norm(motion.target.position - previous.position))
        share = 1.0 if length <= metres + LENGTH_TOLERANCE else metres / length
        tried: Motion | None = motion
        for _ in range(SPEED_TRIES):
            if share < 1.0:
                tried = self.reachable(previous, partway(previous, motion.target, share))
            if tried is None or (share < 1.0 and not self._is_clear(previous, tried)):
                share /= 2
                continue
            ratio = self._joint_ratio(previous, tried, radians)
            if ratio <= 1.0:
                return tried
            share *= SPEED_MARGIN / ratio
            if share < SHORTEST_SHARE:
                break
        return self.stay(previous)

    def _joint_ratio(self, previous: Pose, motion: Motion, radians: Callable[[F64], F64 | float]) -> float:
        """How many times too far the worst joint would go; at most 1 when none does."""
        start = self._joints_at(previous)
        if start is None or motion.joints is None:
            return 0.0
        way = motion.joints - start
        return float((np.abs(way) / radians(way)).max())

    def _is_clear(self, previous: Pose, motion: Motion) -> bool:
        start = self._joints_at(previous)
        if self._arm is None or start is None or motion.joints is None:
            return True
        way = motion.joints - start
        return not any(self._arm.collides(start + share * way) for share in COLLISION_SHARES)

    def _joints_at(self, previous: Pose) -> F64 | None:
        """Joints the arm was told at `previous`; None when nobody knows, and then it is not moved."""
        if self._arm is None:
            return None
        if self._known is not None and same_pose(self._known[0], previous):
            return self._known[1]
        for start in (self._known[1] if self._known is not None else None, self._measured):
            joints = None if start is None else self._solve(previous, start)
            if joints is not None:
                self._known = (previous, joints)
                return joints
        return None

    def _solve(self, target: Pose, start: F64) -> F64 | None:
        """Inverse kinematics that does not believe the arm model: finite and within the joint limits."""
        assert self._arm is not None  # noqa: S101 - callers looked
        joints = self._arm.inverse(target, start)
        if joints is None or not np.isfinite(joints).all():
            return None
        inside = (joints >= self._arm.joint_low).all() and (joints <= self._arm.joint_high).all()
        return joints if inside else None
