"""Ways of many control periods: home, to the park pose, into the cradle. One waypoint a period, never more.

Before each waypoint the emergency stop is looked at, so that a stop ends the way where the arm is by then.
Where a way leads, and what it means to have stopped on it, is for the driver.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from robot_bridge.conventions import CONTROL_HZ, F64, Pose, rotation_angle
from robot_bridge.drivers import kinematics
from robot_bridge.drivers.driver import MotionStopped
from robot_bridge.drivers.lab_link import LabLink
from robot_bridge.errors import MotorFault, NeedsHuman

PERIOD_S: Final = 1.0 / CONTROL_HZ
TRAVEL_JOINT_STEP: Final = 0.12  # radians of any joint in one period: 0.6 rad/s
ARRIVED_XYZ: Final = 0.03  # metres; the arm's accuracy under its own weight is 5 to 8 mm
ARRIVED_ROT: Final = 0.20  # radians


class LongWay:
    """Goes ways through a lab's link. `stopped` says whether the emergency stop is pressed."""

    def __init__(self, link: LabLink, *, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self.stopped: Callable[[], bool] = lambda: False
        self._link, self._clock, self._sleep = link, clock, sleep

    def go(self, start: F64, joints: F64, *, goal: Pose, where: str) -> None:
        """From joints [J], where the arm stands, to others far away that take the gripper to `goal`.

        Raises:
            MotionStopped: the waypoint before was the last; where the arm is must be measured.
            MotorFault: it did not arrive.
        """
        way = [*map(kinematics.forward, waypoints(start, joints)[:-1]), goal]
        for done, target in enumerate(way):
            self.require_free(where, left=len(way) - done)
            begun = self._clock()
            self._link.move(target)
            self.wait_until(begun + PERIOD_S)
            self._link.look()  # a link that corrects itself sees by it how far it is off
        self.require_arrived(goal)
        self.require_free(where)
        self._link.stay(goal)  # less than a waypoint away; both sides agree then where the arm is

    def require_free(self, where: str, *, left: int = 1) -> None:
        """Raises:
        MotionStopped: the emergency stop is pressed.
        """
        if self.stopped():
            raise MotionStopped(where=where, left=left)

    def require_arrived(self, goal: Pose) -> None:
        """Wait a period and measure.

        Raises:
            MotorFault: the gripper is not at the goal.
        """
        self.wait_until(self._clock() + PERIOD_S)
        found = self._link.look().pose
        off, turned = metres_between(found, goal), rotation_angle(found.rotation @ goal.rotation.T)
        if off > ARRIVED_XYZ or turned > ARRIVED_ROT:
            fault = f"{off * 100:.1f} cm and {np.degrees(turned):.0f} degrees short of where it was sent"
            raise MotorFault(motor="of the arm", fault=fault)

    def wait_until(self, moment: float) -> None:
        """Sleep until then by the driver's clock; not at all when it is past."""
        self._sleep(max(0.0, moment - self._clock()))


def waypoints(start: F64, goal: F64) -> list[F64]:
    """Joints [J] along the straight way, no two further apart than TRAVEL_JOINT_STEP; the last is `goal`."""
    count = max(1, int(np.ceil(np.abs(goal - start).max() / TRAVEL_JOINT_STEP)))
    return [start + (goal - start) * number / count for number in range(1, count)] + [goal]


def require_known(joints: F64, measured: Pose) -> None:
    """Small steps lead from where the arm is: its joints [J] must be those of the pose that was measured.

    Raises:
        NeedsHuman: they are not, so no way can be found from there.
    """
    if metres_between(kinematics.forward(joints), measured) > ARRIVED_XYZ:
        reason = "the arm is folded so that nobody knows its joints; bring it to an open pose by hand"
        raise NeedsHuman(reason=reason)


def metres_between(first: Pose, second: Pose) -> float:
    """How far one gripper is from the other, turns aside."""
    return float(np.linalg.norm(first.position - second.position))
