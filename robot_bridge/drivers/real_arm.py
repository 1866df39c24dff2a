"""A real WidowX-250s as a driver, whichever package a lab speaks to it through. That package is a `LabLink`.

What both interfaces leave open is settled here: absolute targets that the station owns, inverse kinematics
before anything is sent, one control period per step by this machine's clock, long ways in small steps.
After a call whose outcome nobody knows, and after park, sleep and motor faults, only `hold` and `reset` move
the arm again: both begin by looking where it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np

from robot_bridge.conventions import (
    CONTROL_HZ,
    DEFAULT_ROTATION,
    F64,
    IMAGE_SIZE,
    STEP_ROT_MAX,
    STEP_XYZ_MAX,
    Pose,
    rotation_angle,
    state_of,
)
from robot_bridge.drivers import kinematics
from robot_bridge.drivers.driver import (
    ArmModel,
    CameraDescription,
    DriverDescription,
    MotorReading,
    Sample,
    StepOutcome,
)
from robot_bridge.drivers.lab_camera import LabCamera
from robot_bridge.drivers.lab_link import LabLink, Seen
from robot_bridge.drivers.lab_package import software_digest
from robot_bridge.drivers.lab_tasks import LabTask, Scene
from robot_bridge.drivers.long_way import PERIOD_S, LongWay, require_known
from robot_bridge.errors import BadAction, DriverError, MotorFault, NeedsHuman, UnknownTask

log = logging.getLogger(__name__)

Readiness: TypeAlias = Literal["ready", "unsure", "parked", "asleep"]

ROBOT_MODEL: Final = "widowx_250s"
# Joints (radians) that are safe to leave the arm at, and those of its cradle, where the motors carry nothing.
NEUTRAL_JOINTS: Final = (-0.1319, -0.7624, 0.4449, -0.0199, 1.7564, -0.1595)
SLEEP_JOINTS: Final = (0.0, -1.80, 1.55, 0.0, 0.8, 0.0)
NEAR_WORK: Final = (-0.0184, 0.0399, 0.2224, -0.0046, 1.3652, 0.0015)  # where a search for joints starts
JUMP_XYZ_MAX: Final = 2.5 * STEP_XYZ_MAX  # metres from one target to the next that no safe action asks for
JUMP_ROT_MAX: Final = 2.0 * STEP_ROT_MAX  # radians, likewise
JUMP_JOINT_MAX: Final = 1.0  # radians of one joint in one period: the arm would flip over


class ArmNotReady(DriverError):
    """A step was asked of an arm that must be reset first. Nothing moved."""

    code = "arm_not_ready"
    sentence = "the arm is {found}, a step needs it ready: nothing moved. Reset it first."


class RealWidowX:
    """The arm behind a `LabLink`; obeys `RobotDriver`. Making one moves nothing.

    Args:
        link: the lab's package.
        tasks: what the cell is set up for; at least one.
        scene: "ask" has somebody confirm before every reset that the objects are in place, "trust" does not.
        clock, sleep: monotonic seconds, and how to wait for them.
    """

    def __init__(
        self,
        link: LabLink,
        *,
        tasks: Sequence[LabTask],
        scene: Scene = "trust",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._link = link
        self._tasks = {task.task_id: task for task in tasks}
        self._scene = scene
        self._clock = clock
        self._camera = LabCamera(clock=clock, size=IMAGE_SIZE)
        self._way = LongWay(link, clock=clock, sleep=sleep)
        self._state: Readiness = "unsure"
        self._asked_for: str | None = None  # the task whose scene somebody was asked to arrange
        self._open: bool | None = None  # what the gripper was told last
        self._joints: F64 = np.array(NEAR_WORK)
        self._target = kinematics.forward(self._joints)

    def heed(self, stopped: Callable[[], bool]) -> None:
        """See `Interruptible`. What a lab's package does by itself, its start and the cradle, has no end."""
        self._way.stopped = stopped

    @property
    def description(self) -> DriverDescription:
        return DriverDescription(
            robot_model=ROBOT_MODEL,
            software_digest=software_digest(self._link.interface),
            camera=CameraDescription(
                name="primary",
                width=IMAGE_SIZE,
                height=IMAGE_SIZE,
                fps=CONTROL_HZ,
                renderer="camera",
                noisy=True,
            ),
            tasks=tuple(task.described(self._scene) for task in self._tasks.values()),
            step_xyz_max=STEP_XYZ_MAX,
            step_rot_max=STEP_ROT_MAX,
            control_hz=CONTROL_HZ,
        )

    @property
    def target(self) -> Pose:
        return self._target

    @property
    def arm(self) -> ArmModel | None:
        return kinematics.WIDOWX

    def look(self) -> Sample:
        """An observation without any motion; also before the first reset.

        Raises:
            DriverDisconnected: the package gives none.
        """
        return self._sample(self._link.look())

    def reset(self, task_id: str, *, seed: int) -> Sample:
        """Bring the arm home with the gripper open. `seed` changes nothing: the scene is what it is."""
        if task_id not in self._tasks:
            raise UnknownTask(task_id=task_id, known=", ".join(sorted(self._tasks)))
        task = self._tasks[task_id]
        self._ask_for_scene(task)
        self._link.prepare()
        self._require_torque()
        self._settle_where_it_is()
        self._grip(1.0)
        home = Pose(np.array(task.home), DEFAULT_ROTATION)
        joints = kinematics.WIDOWX.inverse(home, np.array(NEAR_WORK))
        if joints is None:
            raise NeedsHuman(reason=f"the home of task {task_id} at {task.home} m is out of the arm's reach")
        self._travel(joints, home, "home")
        self._state, self._asked_for = "ready", None
        return self.look()

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        if self._state != "ready":
            raise ArmNotReady(found=self._state)
        if not np.isfinite(gripper):
            raise BadAction(thing="gripper", expected="a finite number", found=str(gripper))
        begun = self._clock()
        joints = self._joints_for(target)
        self._state = "unsure"  # until the call is known to have ended well
        if joints is not None:
            self._link.move(target)
            self._joints, self._target = joints, target
        self._grip(gripper)
        self._way.wait_until(begun + PERIOD_S)
        sample = self.look()
        self._state = "ready"
        return StepOutcome(sample=sample, ik_ok=joints is not None, target=self._target)

    def hold(self) -> None:
        """Every motion ends within its call, so an arm that is ready already stands at its set point."""
        if self._state == "unsure":
            self._settle_where_it_is()
            self._state = "ready"

    def park(self) -> None:
        """To the neutral pose, in small steps."""
        if self._state == "asleep":
            return
        if self._state != "parked":
            self._settle_where_it_is()
        self._travel(np.array(NEUTRAL_JOINTS), None, "to its park pose")
        self._state = "parked"

    def motors(self) -> tuple[MotorReading, ...]:
        return self._link.motors()

    def reboot_motors(self) -> None:
        broken = [motor.name for motor in self._link.motors() if motor.error]
        self._state = "unsure"
        if broken:
            log.warning("motors rebooted interface=%s motors=%s", self._link.interface, ",".join(broken))
            self._link.reboot(broken)
        for motor in self._link.motors():
            if motor.error:
                raise MotorFault(motor=motor.name, fault=f"{motor.error}, also after a reboot")

    def sleep(self) -> None:
        """Park, lay the arm into its cradle, switch the torque off where the package can."""
        self.park()
        self._state = "unsure"
        self._way.require_free("into its cradle")
        if self._link.lie_down():
            self._way.require_arrived(kinematics.forward(np.array(SLEEP_JOINTS)))
        else:
            self._travel(np.array(SLEEP_JOINTS), None, "into its cradle")
        self._state = "asleep"
        if not self._link.torque(on=False):
            log.warning(
                "torque stays on interface=%s: it has no call for it; the arm lies in its cradle",
                self._link.interface,
            )

    def wake(self) -> None:
        self._link.torque(on=True)
        self._state = "unsure"

    def success(self) -> bool | None:
        return None

    def close(self) -> None:
        self._link.close()

    def _ask_for_scene(self, task: LabTask) -> None:
        if self._scene == "ask" and self._asked_for != task.task_id:
            self._asked_for = task.task_id
            raise NeedsHuman(reason=f"arrange the scene for {task.instruction!r}")

    def _require_torque(self) -> None:
        for motor in self._link.motors():
            if motor.error:
                raise MotorFault(motor=motor.name, fault=motor.error)
            if not motor.torque:
                raise MotorFault(motor=motor.name, fault="torque off; wake the arm")

    def _joints_for(self, target: Pose) -> F64 | None:
        """Joints for a target that is one period away; None when the arm cannot, or would have to leap."""
        turn = rotation_angle(target.rotation @ self._target.rotation.T)
        if np.linalg.norm(target.position - self._target.position) > JUMP_XYZ_MAX or turn > JUMP_ROT_MAX:
            return None
        solution = kinematics.inverse(target, self._joints)
        leap = float(np.abs(solution.joints - self._joints).max())
        return solution.joints if solution.ok and leap <= JUMP_JOINT_MAX else None

    def _settle_where_it_is(self) -> None:
        """Make the measured pose the target, so that whatever the arm was on its way to is forgotten."""
        seen = self._link.look()
        self._joints = self._measured_joints(seen)
        self._target = seen.pose
        self._link.stay(seen.pose)

    def _travel(self, joints: F64, pose: Pose | None, where: str) -> None:
        """Go to joints far away in waypoints; until the arm is there nobody is sure where it is."""
        goal = kinematics.forward(joints) if pose is None else pose
        require_known(self._joints, self._target)
        self._state = "unsure"
        self._way.go(self._joints, joints, goal=goal, where=where)
        self._joints, self._target = joints, goal

    def _grip(self, opening: float) -> None:
        wide = opening > 0.5
        if wide is not self._open:
            self._open = None
            self._link.grip(1.0 if wide else 0.0)
            self._open = wide

    def _measured_joints(self, seen: Seen) -> F64:
        return kinematics.inverse(seen.pose, self._joints).joints if seen.joints is None else seen.joints

    def _sample(self, seen: Seen) -> Sample:
        frame = self._camera.take(seen.picture)
        fingers = np.array([seen.finger, seen.finger])
        currents = np.zeros(7) if seen.currents is None else seen.currents
        return Sample(
            image=frame.image,
            proprio=state_of(seen.pose, seen.finger),
            qpos=np.concatenate([self._measured_joints(seen), fingers]).astype(np.float32),
            effort_mA=currents.astype(np.float32),
            captured_at=self._clock(),
            seq=frame.seq,
            age_s=frame.age_s,
        )
