"""An arm of three slides and a ball joint: six numbers that are the gripper's pose itself.

It is for tests of what asks an `ArmModel`: its inverse kinematics is exact, its limits and its keep-out are
plain boxes, and `solved` counts how often it was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robot_bridge.conventions import DEFAULT_ROTATION, Pose
from robot_bridge.drivers.driver import Sample
from robot_bridge.turns import axis_and_angle, rotation_about

F64 = NDArray[np.float64]


@dataclass
class CartesianArm:
    """Joints [6]: position (metres), then the rotation vector from straight down (radians)."""

    low: tuple[float, ...] = (0.0, -0.5, 0.0, -2.0, -2.0, -2.0)
    high: tuple[float, ...] = (0.5, 0.5, 0.4, 2.0, 2.0, 2.0)
    forbidden_below: float = -1.0  # metres of height that count as a collision
    gear: float = 1.0  # joint units per metre, of the slides
    lies: F64 | None = None  # joints it answers whatever it is asked
    solved: list[Pose] = field(default_factory=list)

    @property
    def joint_low(self) -> F64:
        return np.array(self.low) * self._gears()

    @property
    def joint_high(self) -> F64:
        return np.array(self.high) * self._gears()

    def forward(self, joints: F64) -> Pose:
        numbers = joints / self._gears()
        angle = float(np.linalg.norm(numbers[3:]))
        turn = rotation_about(numbers[3:] / angle, angle) if angle > 1e-12 else np.eye(3)
        return Pose(numbers[:3], turn @ DEFAULT_ROTATION)

    def inverse(self, target: Pose, start: F64) -> F64 | None:
        self.solved.append(target)
        if self.lies is not None:
            return self.lies
        axis, angle = axis_and_angle(target.rotation @ DEFAULT_ROTATION.T)
        joints = np.concatenate([target.position, axis * angle]) * self._gears()
        inside = (joints >= self.joint_low).all() and (joints <= self.joint_high).all()
        return joints if inside else None

    def collides(self, joints: F64) -> bool:
        return bool(joints[2] / self.gear < self.forbidden_below)

    def _gears(self) -> F64:
        return np.array([self.gear] * 3 + [1.0] * 3)


def a_sample(
    qpos: NDArray[np.floating] | None = None, *, effort: float = 0.0, seq: int = 1, **changes: object
) -> Sample:
    """A small valid sample: joints [up to 8] as given, every arm joint at this current."""
    joints = np.zeros(8, dtype=np.float32)
    if qpos is not None:
        joints[: len(qpos)] = qpos
    fields: dict[str, object] = {
        "image": np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3),
        "proprio": np.zeros(7, dtype=np.float32),
        "qpos": joints,
        "effort_mA": np.array([effort] * 6 + [0.0], dtype=np.float32),
        "captured_at": float(seq),
        "seq": seq,
    }
    return Sample(**{**fields, **changes})  # type: ignore[arg-type]
