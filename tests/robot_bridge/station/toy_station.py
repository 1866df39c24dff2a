"""A station over the toy robot as a program of its own, to be killed: `toy_station.py SPOOL LOG [DIE_AT]`.

Prints its URL. Every step goes to the file LOG; with DIE_AT, the program kills itself with SIGKILL in that
step, after the robot has moved.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from robot_bridge.conventions import Pose
from robot_bridge.drivers.driver import StepOutcome
from robot_bridge.station.serve import serve_station
from tests.robot_bridge.toy_driver import ToyDriver


class Mortal(ToyDriver):
    """The toy robot, whose program dies in one of its steps."""

    def __init__(self, log: Path, die_at: int) -> None:
        super().__init__(log)
        self._die_at = die_at

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        outcome = super().step(target, gripper)
        if self.moves == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome


def announce(url: str) -> None:
    sys.stdout.write(url + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    die_at = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    driver = Mortal(Path(sys.argv[2]), die_at)
    serve_station(driver, spool=Path(sys.argv[1]), station_id="bench", announce=announce)
