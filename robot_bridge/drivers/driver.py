"""The contract between a station and whatever moves the arm: one Protocol and the records it exchanges.

No simulator and no hardware here. A driver gets absolute targets that the station has already made safe; it
neither clamps nor judges actions. Every call is synchronous and belongs to one control period.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robot_bridge.conventions import Pose
from robot_bridge.errors import DriverError, UnknownTask
from robot_bridge.limits import CEILINGS, EE_ACCEL_MAX, JOINT_ACCEL_MAX, Limits

SceneReset: TypeAlias = Literal["auto", "human", "none"]
Judge: TypeAlias = Literal["classifier", "sim", "human"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One observation: picture and joint readings of the same instant.

    Attributes:
        image: uint8 [256, 256, 3], RGB.
        proprio: float32 [7], bridge_v2 state (metres, radians, gripper).
        qpos: float32 [8], six arm joints (radians) and two fingers (metres).
        effort_mA: float32 [7], motor currents of the six arm joints and the gripper.
        captured_at: seconds on the driver's monotonic clock (simulated time for a simulated cell).
        seq: the camera's own number of the picture; rises with every new one.
        age_s: how old the picture was when it was read, by the driver's clock.
    """

    image: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    qpos: NDArray[np.float32]
    effort_mA: NDArray[np.float32]  # noqa: N815 - mA is the unit
    captured_at: float
    seq: int
    age_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MotorReading:
    """One motor: `error` is "" when it is well, otherwise what its status register says, in words."""

    name: str
    torque: bool
    error: str = ""
    temperature_c: float | None = None
    current_mA: float | None = None  # noqa: N815 - mA is the unit


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
    """The camera as it delivers pictures: pixels, frames per second and what makes the picture.

    `noisy` says that two pictures of an unmoved scene differ, as those of every real sensor do: then equal
    pictures mean that the camera is frozen.
    """

    name: str
    width: int
    height: int
    fps: float
    renderer: str
    noisy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDescription:
    """A task that the robot knows, and the box (metres, corner to corner) that its targets must stay in.

    `reset` says who arranges its scene: the robot's own side, a person before every reset, or nobody. `judge`
    says who tells whether an episode succeeded.
    """

    task_id: str
    instruction: str
    box_low: tuple[float, float, float]
    box_high: tuple[float, float, float]
    reset: SceneReset = "auto"
    judge: Judge = "sim"


class ArmModel(Protocol):
    """The arm as geometry: pure and fast. The safety pipeline asks it before the driver is told."""

    @property
    def joint_low(self) -> NDArray[np.float64]:
        """Lowest allowed joint positions, radians [J]."""
        ...

    @property
    def joint_high(self) -> NDArray[np.float64]: ...

    def forward(self, joints: NDArray[np.float64]) -> Pose:
        """Pose of the gripper at joints [J]."""
        ...

    def inverse(self, target: Pose, start: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Joints [J] within their limits that take the gripper there, near `start`; None: out of reach."""
        ...

    def collides(self, joints: NDArray[np.float64]) -> bool:
        """Whether the arm would touch itself or the table it stands on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverDescription:
    """Who this robot is and what it allows; a station publishes it and may only narrow it.

    Attributes:
        robot_model: name of the arm.
        software_digest: sha256 hex of everything that decides how an action turns into motion and pictures.
        step_xyz_max: metres that one action may move the target along each axis.
        step_rot_max: radians that one action may turn the target.
        control_hz: actions per second.
        ee_speed_max: metres per second that the target of the gripper may travel.
        joint_speed_max: radians per second that the set point of any joint may travel.
        ee_accel_max: metres per second squared by which it may speed up from one step to the next.
        joint_accel_max: radians per second squared, likewise, of any joint.
        effort_max_mA: current of any arm joint, either sign, above which motion is cut.
        tilt_max: radians that the gripper may lean away from straight down; pi allows everything.
        tracking_max_m: how far the measured gripper may stay from its target before it counts as a fault.
    """

    robot_model: str
    software_digest: str
    camera: CameraDescription
    tasks: tuple[TaskDescription, ...]
    step_xyz_max: float
    step_rot_max: float
    control_hz: float
    ee_speed_max: float = 1.0
    joint_speed_max: float = float(np.pi)  # the servos' own limit
    ee_accel_max: float = EE_ACCEL_MAX
    joint_accel_max: float = JOINT_ACCEL_MAX
    effort_max_mA: float = 1000.0  # noqa: N815 - above 1300 mA the servos are in danger
    tilt_max: float = float(np.pi)
    tracking_max_m: float = 0.10

    def task(self, task_id: str) -> TaskDescription:
        """The task of that id.

        Raises:
            UnknownTask: this robot has none.
        """
        tasks = {task.task_id: task for task in self.tasks}
        if task_id not in tasks:
            raise UnknownTask(task_id=task_id, known=", ".join(tasks))
        return tasks[task_id]

    def limits(self, task_id: str) -> Limits:
        """All that this robot allows in an episode of a task.

        Raises:
            UnknownTask: it has no such task.
        """
        task, ceilings = self.task(task_id), {name: getattr(self, name) for name in CEILINGS}
        return Limits(box_low=task.box_low, box_high=task.box_high, **ceilings)


class MotionStopped(DriverError):
    """A long way was ended by the emergency stop: the arm is where its last part took it."""

    code = "motion_stopped"
    sentence = "the arm was stopped on its way {where}, {left} parts from its end. Reset it when it may move."


@runtime_checkable
class Interruptible(Protocol):
    """A driver whose long ways, to its home and to its park pose, take real time."""

    def heed(self, stopped: Callable[[], bool]) -> None:
        """Ask `stopped` before every part of a long way from now on, and end it with MotionStopped."""
        ...


@runtime_checkable
class Looking(Protocol):
    """A driver that can give an observation without any motion, also before its first reset."""

    def look(self) -> Sample | None:
        """Picture and joints as they are now; None: the driver behind this one has no way to look.

        Raises:
            DriverError: there is nothing to be seen.
        """
        ...


class RobotDriver(Protocol):
    """One arm with one camera. Not thread safe: the station calls it from one place at a time."""

    @property
    def description(self) -> DriverDescription: ...

    @property
    def target(self) -> Pose:
        """The pose the arm is asked to hold now; the first action of an episode is composed on it."""
        ...

    @property
    def arm(self) -> ArmModel | None:
        """The geometry of this arm, or None when the driver does not know it."""
        ...

    def reset(self, task_id: str, *, seed: int) -> Sample:
        """Arrange the scene of a task and bring the arm home; the same seed gives the same episode.

        Raises:
            UnknownTask: this robot has no such task.
            NeedsHuman: it cannot be done without somebody's hand.
            MotorFault, CameraStale, DriverDisconnected: the robot cannot go on.
        """
        ...

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        """Move towards an absolute target for one control period; gripper 0 closed .. 1 open.

        Raises:
            DriverDisconnected: nobody knows whether it moved.
            MotorFault, CameraStale: it may have moved; the episode cannot go on.
        """
        ...

    def hold(self) -> None:
        """Stop where the arm is, with torque; `target` is then that pose, and the next step starts there."""
        ...

    def park(self) -> None:
        """Go slowly to a pose that is safe to leave; afterwards only `reset` may follow."""
        ...

    def motors(self) -> tuple[MotorReading, ...]:
        """The state of every motor, without moving any."""
        ...

    def reboot_motors(self) -> None:
        """Restart motors that report an error. Their joints may drop: only at the robot's side.

        Raises:
            MotorFault: one still reports an error.
        """
        ...

    def sleep(self) -> None:
        """Park and switch the torque off, so that the motors cool."""
        ...

    def wake(self) -> None:
        """Switch the torque on again; only `reset` may follow."""
        ...

    def success(self) -> bool | None:
        """Whether the task is accomplished at this moment, by ground truth; None: nobody here knows."""
        ...

    def close(self) -> None:
        """Release what the driver holds. Calling it twice does no harm."""
        ...
