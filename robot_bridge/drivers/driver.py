"""The contract between a station and whatever moves the arm: one Protocol and the records it exchanges.

No simulator and no hardware here. A driver gets absolute targets that the station has already made safe; it
neither clamps nor judges actions. Every call is synchronous and belongs to one control period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robot_bridge.conventions import Pose


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One observation: picture and joint readings of the same instant.

    Attributes:
        image: uint8 [256, 256, 3], RGB.
        proprio: float32 [7], bridge_v2 state (metres, radians, gripper).
        qpos: float32 [8], six arm joints (radians) and two fingers (metres).
        effort_mA: float32 [7], motor currents of the six arm joints and the gripper.
        captured_at: seconds on the driver's monotonic clock (simulated time for a simulated cell).
    """

    image: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    qpos: NDArray[np.float32]
    effort_mA: NDArray[np.float32]  # noqa: N815 - mA is the unit
    captured_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """What one control period came to.

    Attributes:
        sample: the observation at the end of the period.
        ik_ok: False when the arm cannot take the pose asked for.
        target: the pose the arm is now asked to hold. It is the pose asked for when `ik_ok`, otherwise the
            target of the step before: the next action must be composed on this one.
    """

    sample: Sample
    ik_ok: bool
    target: Pose


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraDescription:
    """The camera as it delivers pictures: pixels, frames per second and what makes the picture."""

    name: str
    width: int
    height: int
    fps: float
    renderer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDescription:
    """A task that the robot knows, and the box (metres, corner to corner) that its targets must stay in."""

    task_id: str
    instruction: str
    box_low: tuple[float, float, float]
    box_high: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverDescription:
    """Who this robot is and what it allows; a station publishes it and may only narrow it.

    Attributes:
        robot_model: name of the arm.
        software_digest: sha256 hex of everything that decides how an action turns into motion and pictures.
        step_xyz_max: metres that one action may move the target along each axis.
        step_rot_max: radians that one action may turn the target.
        control_hz: actions per second.
    """

    robot_model: str
    software_digest: str
    camera: CameraDescription
    tasks: tuple[TaskDescription, ...]
    step_xyz_max: float
    step_rot_max: float
    control_hz: float


class RobotDriver(Protocol):
    """One arm with one camera. Not thread safe: the station calls it from one place at a time."""

    @property
    def description(self) -> DriverDescription: ...

    @property
    def target(self) -> Pose:
        """The pose the arm is asked to hold now; the first action of an episode is composed on it."""
        ...

    def reset(self, task_id: str, *, seed: int) -> Sample:
        """Arrange the scene of a task and bring the arm home; the same seed gives the same episode.

        Raises:
            UnknownTask: this robot has no such task.
        """
        ...

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        """Move towards an absolute target for one control period; gripper 0 closed .. 1 open."""
        ...

    def success(self) -> bool:
        """Whether the current task is accomplished at this moment, by ground truth."""
        ...

    def close(self) -> None:
        """Release what the driver holds. Calling it twice does no harm."""
        ...
