"""What a lab's own package must offer so that `RealWidowX` can drive the arm through it. Words only, no code.

`widowx_envs` and `manipulator_gym` are the two that exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robot_bridge.conventions import F64, Pose
from robot_bridge.drivers.driver import MotorReading
from robot_bridge.errors import DriverDisconnected


class NotInitialised(DriverDisconnected):
    """The package's server runs, but drives no arm yet. Nothing moved."""

    code = "not_initialised"
    sentence = "{interface} cannot answer {call}: {reason}. Reset the arm."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What one look through a lab's package shows.

    picture uint8 [H, W, 3] RGB; pose of the gripper; left finger in metres; joints [6] in radians and
    currents [7] in mA of arm and gripper, None where the package does not tell them.
    """

    picture: NDArray[np.uint8]
    pose: Pose
    finger: float
    joints: F64 | None = None
    currents: F64 | None = None


class LabLink(Protocol):
    """One lab's package, in this project's units. Every call may raise DriverDisconnected."""

    @property
    def interface(self) -> str:
        """Name of the package, for errors and the digest."""
        ...

    def prepare(self) -> None:
        """Bring the other side to life before the first motion. May move the arm."""
        ...

    def look(self) -> Seen: ...

    def move(self, target: Pose) -> None:
        """Set out for a pose one period away.

        Raises:
            MotorFault: the other side gave the motion up.
        """
        ...

    def stay(self, here: Pose) -> None:
        """Make a pose that the arm is at, or nearly, its set point: wherever else it went is forgotten."""
        ...

    def lie_down(self) -> bool:
        """Go into the cradle by the package's own motion; False: it has none, nothing moved."""
        ...

    def grip(self, opening: float) -> None:
        """Gripper: 0 closed .. 1 open; these packages know only the two ends."""
        ...

    def motors(self) -> tuple[MotorReading, ...]: ...

    def reboot(self, names: Sequence[str]) -> None: ...

    def torque(self, on: bool) -> bool:
        """Switch the torque of all motors; False: this package cannot, nothing changed."""
        ...

    def close(self) -> None: ...
