"""How much faster than in the step before an arm may go: what is left of its motion, plus one period's gain.

Only what speeds up is limited. To stop, or to go another way, an arm may always be told at once: limiting
that would need more motion than was asked for. What the arm carries over is its last step as it was told,
along the way that is asked now; a way back begins from rest.
"""

from __future__ import annotations

import numpy as np

from robot_bridge.conventions import F64, Pose
from robot_bridge.turns import same_pose


class Momentum:
    """The last step of one arm.

    Args:
        gain_m: metres that a step of the gripper may be longer than the one before.
        gain_rad: radians, likewise, of any joint.
    """

    def __init__(self, *, gain_m: float, gain_rad: float) -> None:
        self._gain_m, self._gain_rad = gain_m, gain_rad
        self._at: Pose | None = None  # where the last step ended; None: at rest
        self._moved = np.zeros(3)
        self._turned: F64 | None = None  # joints [J]

    def rest(self) -> None:
        """The arm stands: an episode begins, somebody held it, or it did not do what it was told."""
        self._at = None

    def took(self, start: Pose, end: Pose, turned: F64 | None) -> None:
        """The arm was told to go from one pose to another, its joints [J] by so much where they are known."""
        self._at, self._moved, self._turned = end, end.position - start.position, turned

    def metres(self, here: Pose, way: F64) -> float:
        """The longest step of the gripper along `way` [3] from here."""
        length = float(np.linalg.norm(way))
        carried = float(self._moved @ way) / length if self._is_from(here) and length > 0.0 else 0.0
        return max(0.0, carried) + self._gain_m

    def radians(self, here: Pose, way: F64) -> F64:
        """The longest step [J] of every joint in the direction that `way` [J] has, from here."""
        carried = np.zeros_like(way)
        if self._is_from(here) and self._turned is not None:
            carried = np.maximum(0.0, self._turned * np.sign(way))
        return carried + self._gain_rad

    def _is_from(self, here: Pose) -> bool:
        return self._at is not None and same_pose(self._at, here)
