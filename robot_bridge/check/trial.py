"""What the items of a check share: the driver, what it was told, and every sample it gave.

Motion goes through the same safety pipeline as an episode's, with limits narrowed to the check's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from robot_bridge.check.verdicts import Number
from robot_bridge.conventions import F64, Pose, delta_between, pose_of_vector
from robot_bridge.drivers.driver import DriverDescription, RobotDriver, Sample, TaskDescription
from robot_bridge.errors import RobotBridgeError
from robot_bridge.limits import Limits
from robot_bridge.safety import SafetyPipeline

MOVE_XYZ: Final = 0.010  # metres: the longest way of the check from home
MOVE_ROT: Final = float(np.deg2rad(5.0))  # radians, likewise
SUBSTEPS: Final = 4  # control periods a motion takes: 1.25 cm/s and 6 degrees/s
SETTLE_STEPS: Final = 3  # periods without a command after it
NOT_HOME: Final = "there is no observation yet: the arm did not come home"


class CheckFailed(RobotBridgeError):
    """An item that did not pass: what was found, and the numbers behind it. Ends that item only."""

    code = "check_failed"
    sentence = "{found}."

    def __init__(self, *, found: str, numbers: dict[str, Number] | None = None) -> None:
        super().__init__(found=found)
        self.found = found
        self.numbers = numbers or {}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moved:
    """One motion: what was commanded and what was measured, both [6] metres and radians about world axes."""

    commanded: F64
    measured: F64


class Trial:
    """One run of the check on one driver."""

    def __init__(
        self, driver: RobotDriver, *, task: TaskDescription, seed: int, clock: Callable[[], float]
    ) -> None:
        self.driver = driver
        self.description: DriverDescription = driver.description
        self.task, self.seed, self.clock = task, seed, clock
        self.samples: list[Sample] = []
        self.call_s: list[float] = []  # what each step took
        self.gripper = 1.0
        self.turns: dict[str, Moved] = {}
        self._pipeline: SafetyPipeline | None = None  # from home on

    @property
    def last(self) -> Sample:
        """The newest observation."""
        if not self.samples:
            raise CheckFailed(found=NOT_HOME)
        return self.samples[-1]

    @property
    def measured(self) -> Pose:
        """Where the gripper was in it."""
        return pose_of_vector(self.last.proprio)

    @property
    def farthest_m(self) -> float:
        """How far from the first observation the gripper was ever measured."""
        places = np.array([sample.proprio[:3] for sample in self.samples], dtype=np.float64)
        return float(np.linalg.norm(places - places[0], axis=1).max())

    def home(self) -> None:
        """Reset, and start the pipeline where the arm then is."""
        sample = self.driver.reset(self.task.task_id, seed=self.seed)
        self.samples = [sample]
        self._pipeline = self._safety()
        self._pipeline.begin(sample)

    def step(self, move: F64) -> None:
        """One control period with a bridge_v2 delta [6].

        Raises:
            CheckFailed: the pipeline or the arm refused it.
        """
        if self._pipeline is None:
            raise CheckFailed(found=NOT_HOME)
        begun = self.clock()
        command = self._pipeline.apply(self.driver.target, np.append(move, self.gripper))
        outcome = self.driver.step(command.target, command.gripper)
        self.call_s.append(self.clock() - begun)
        self.samples.append(outcome.sample)
        self._pipeline.took(outcome)
        if not outcome.ik_ok:
            raise CheckFailed(found="the arm refused a target that lies in its box (inverse kinematics)")

    def rest(self, steps: int = SETTLE_STEPS) -> None:
        """Control periods in which nothing is asked for."""
        for _ in range(steps):
            self.step(np.zeros(6))

    def move(self, way: F64) -> Moved:
        """Go a way [6] slowly and come to rest; gives what came of it. The way back is the caller's."""
        start, held = self.measured, self.driver.target
        for _ in range(SUBSTEPS):
            self.step(way / SUBSTEPS)
        self.rest()
        return Moved(
            commanded=delta_between(held, self.driver.target), measured=delta_between(start, self.measured)
        )

    def there_and_back(self, axis: int, size: float) -> Moved:
        """A motion along or about one world axis, towards the middle of the box, and back again."""
        way = np.zeros(6)
        way[axis] = size * (self._inward(axis) if axis < 3 else 1.0)
        moved = self.move(way)
        self.move(-way)
        return moved

    def _safety(self) -> SafetyPipeline:
        said = self.description
        limits = Limits(
            box_low=self.task.box_low,
            box_high=self.task.box_high,
            step_xyz_max=min(MOVE_XYZ, said.step_xyz_max),
            step_rot_max=min(MOVE_ROT, said.step_rot_max),
            ee_speed_max=said.ee_speed_max,
            joint_speed_max=said.joint_speed_max,
            effort_max_mA=said.effort_max_mA,
        )
        return SafetyPipeline(limits, arm=self.driver.arm, control_hz=said.control_hz)

    def _inward(self, axis: int) -> float:
        middle = (self.task.box_low[axis] + self.task.box_high[axis]) / 2.0
        return 1.0 if self.driver.target.position[axis] <= middle else -1.0
