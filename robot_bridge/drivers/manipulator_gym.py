"""A real WidowX-250s through `manipulator_gym`, the interface that AutoEval's cells run.

The package is the lab's own; see INSTALL. Three traps of it decide how this link speaks:

* `move_eef` takes an absolute pose and is safe for it, but always takes four seconds, blocks the server,
  and so never answers within the 800 ms that the client waits; nothing can stop what it began. So it only
  ever names the pose that the arm is at, to make both sides sure of that; its "no answer" is expected there.
  Long ways are many small steps like any other.
* `step_action` is quick, but *adds Euler angles* to the pose commanded last. Where the gripper points
  straight down these angles are singular: a roll becomes a yaw, and the sign of pitch depends on which side
  it leans to. So what is sent is the difference between the Euler angles of the wanted pose and those of
  the pose commanded last, in the frame of the arm that is not rotated: the sum on the other side then is
  the wanted pose, exactly. Within SINGULAR_CONE of straight down, rounding of the other side alone would
  turn the difference round; there the gripper leans by that much instead.
* The other side rounds joints to 0.001 rad *towards zero*, step after step, so added differences creep. A
  small part of what the measured pose misses is added to every target; the station's target stays what it is.

`ActionClientInterface.move_gripper` is the base class's and only prints: the gripper goes through
`custom_fn`. Reading an observation from a dead server never returns: every call here has a deadline.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from robot_bridge.conventions import F64, Pose, rotation_of_euler
from robot_bridge.drivers import kinematics
from robot_bridge.drivers.driver import MotorReading
from robot_bridge.drivers.lab_link import Seen
from robot_bridge.drivers.lab_package import LabLine, lab_module
from robot_bridge.errors import MotorFault

log = logging.getLogger(__name__)

INTERFACE: Final = "manipulator_gym"
MODULE: Final = "manipulator_gym.interfaces.interface_service"
INSTALL: Final = (
    "manipulator_gym of github.com/rail-berkeley/manipulator_gym and agentlace of "
    "github.com/youliangtan/agentlace into this environment"
)
DEFAULT_ADDRESS: Final = "127.0.0.1:5556"  # the server has no authentication: loopback or a closed network
MOTORS: Final = (*kinematics.JOINT_NAMES, "gripper")

FINGER_ZERO: Final = 0.010  # metres of left finger that the package calls 0
FINGER_RANGE: Final = 0.070  # metres from there to its 1; the gripper reaches 0.386 of it
GRIP_OPEN, GRIP_CLOSED = 0.39, 0.0  # what its move_gripper takes; above 0.25 opens

OBSERVE_TIMEOUT_S: Final = 3.0  # the client asks again by itself: two of its tries
SLOW_TIMEOUT_S: Final = 20.0  # of a four-second motion, until the server answers again
SINGULAR_CONE: Final = 0.02  # radians from straight down: 1.1 degrees
SINGULAR_BELOW: Final = 1e-6  # where the package itself takes a rotation for straight down
TRIM_SHARE: Final = 0.2  # of the measured miss, per step
TRIM_XYZ_MAX: Final = 0.02  # metres
TRIM_ROT_MAX: Final = 0.10  # radians
REGISTER: Final = {  # bits of Hardware_Error_Status
    0x01: "input voltage",
    0x04: "overheating",
    0x08: "encoder",
    0x10: "electrical shock",
    0x20: "overload",
}


class ManipulatorGymLink:
    """One connection to the server; a `LabLink`.

    Raises:
        LabPackageMissing: the lab's package is not installed here.
        DriverDisconnected: no server at that address.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        observe_timeout_s: float = OBSERVE_TIMEOUT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        module = lab_module(MODULE, install=INSTALL)
        self._line = LabLine(INTERFACE)
        self._timeout_s = observe_timeout_s
        self._sleep = sleep
        self._client = self._line.ask("connect", lambda: module.ActionClientInterface(host=host, port=port))
        self._commanded: F64 | None = None  # [6] xyz and Euler angles that the other side was told last
        self._meant: Pose | None = None  # the pose that this should come to, without the trim
        self._trim_xyz, self._trim_rot = np.zeros(3), np.zeros(3)
        self._opening = 1.0

    @property
    def interface(self) -> str:
        return INTERFACE

    def prepare(self) -> None:
        """The server is ready as soon as it runs."""

    def look(self) -> Seen:
        return self._look(self._timeout_s)

    def move(self, target: Pose) -> None:
        """One `step_action` towards an absolute target.

        Raises:
            MotorFault: nobody knows what the other side was told last; travel first.
        """
        if self._commanded is None:
            raise MotorFault(motor="of the arm", fault="a pose that nobody commanded; reset it")
        told, meant = self._goal(target)
        action = np.append(told - self._commanded, self._opening)
        self._forget()  # until the answer came
        if self._line.ask("step_action", lambda: self._client.step_action(action)) is not True:
            raise self._line.silent("step_action", "no answer in time; the arm may have moved")
        self._commanded, self._meant = told, meant

    def stay(self, here: Pose) -> None:
        """One `move_eef` to where the arm is: both sides agree about that then, and hardly anything moves."""
        self._forget()
        self._trim_xyz, self._trim_rot = np.zeros(3), np.zeros(3)
        told, meant = self._goal(here)
        self._line.ask("move_eef", lambda: self._client.move_eef(told))
        self._look(SLOW_TIMEOUT_S)  # answers again once the motion is over
        self._commanded, self._meant = told, meant

    def lie_down(self) -> bool:
        """Its own way into the cradle, which is part of its `reset`."""
        here = np.append(self.look().pose.position, [0.0, np.pi / 2, 0.0, 1.0])  # straight down, open
        self._forget()
        self._line.ask("reset", lambda: self._client.reset(target_state=here, go_sleep=True, moving_time=4.0))
        self._look(SLOW_TIMEOUT_S)
        return True

    def grip(self, opening: float) -> None:
        state = GRIP_OPEN if opening > 0.5 else GRIP_CLOSED
        if self._custom("move_gripper", grip_state=state) is not True:
            raise self._line.silent("move_gripper", "no answer in time; the gripper may have moved")
        self._opening = 1.0 if opening > 0.5 else 0.0

    def motors(self) -> tuple[MotorReading, ...]:
        torque = self._registers("get_torque_status")
        errors = self._registers("motor_status")
        currents = self._currents()
        missing = f"only {min(len(torque), len(errors))} of {len(MOTORS)} motors answer"
        if len(torque) < len(MOTORS) or len(errors) < len(MOTORS):  # it does not say which
            return tuple(MotorReading(name=name, torque=False, error=missing) for name in MOTORS)
        return tuple(
            MotorReading(
                name=name,
                torque=bool(torque[index]),
                error=error_words(int(errors[index])),
                current_mA=None if currents is None else float(currents[index]),
            )
            for index, name in enumerate(MOTORS)
        )

    def reboot(self, names: Sequence[str]) -> None:
        self._forget()
        for name in names:
            self._custom("reboot_motor", joint_name=name)

    def torque(self, on: bool) -> bool:
        """Switch it, and read it back: the call itself answers nothing, whether it worked or not."""
        self._forget()
        self._custom("enable_torque", enable=on)
        found = self._registers("get_torque_status")
        wrong = [name for name, state in zip(MOTORS, found, strict=False) if bool(state) is not on]
        if wrong or len(found) < len(MOTORS):
            fault = f"torque that is not {'on' if on else 'off'} as it was told"
            raise MotorFault(motor=", ".join(wrong) or "of the arm", fault=fault)
        return True

    def close(self) -> None:
        """The client has no call for it; its sockets go with it."""

    def _look(self, timeout_s: float) -> Seen:
        def read() -> tuple[Any, Any, Any]:
            client = self._client
            return client.eef_pose, client.gripper_state, client.primary_img

        vector, gripper, picture = self._line.ask("observation", read, timeout_s=timeout_s)
        numbers = np.asarray(vector, dtype=np.float64)
        if numbers.shape != (6,) or not np.isfinite([*numbers, gripper]).all():
            raise self._line.silent("observation", f"a pose {vector!r} and a gripper {gripper!r}")
        pose = Pose(numbers[:3], rotation_of_euler(numbers[3:6]))
        self._notice_miss(pose)
        return Seen(
            picture=np.asarray(picture),
            pose=pose,
            finger=FINGER_ZERO + FINGER_RANGE * float(gripper),
            currents=self._currents(),
        )

    def _goal(self, target: Pose) -> tuple[F64, Pose]:
        """[6] what the other side is to be told for a target, and the pose that this should come to."""
        azimuth = 0.0 if self._commanded is None else float(self._commanded[5])
        meant = rotation_of_euler(clear_of_singularity(euler_as_they_do(target.rotation), azimuth))
        euler = euler_as_they_do(rotation_of_euler(self._trim_rot) @ meant)
        told = np.concatenate([target.position + self._trim_xyz, clear_of_singularity(euler, azimuth)])
        return told, Pose(target.position, meant)

    def _notice_miss(self, measured: Pose) -> None:
        if self._meant is None:
            return
        missed = self._meant.position - measured.position
        turned = _small_turn(self._meant.rotation @ measured.rotation.T)
        self._trim_xyz = np.clip(self._trim_xyz + TRIM_SHARE * missed, -TRIM_XYZ_MAX, TRIM_XYZ_MAX)
        self._trim_rot = np.clip(self._trim_rot + TRIM_SHARE * turned, -TRIM_ROT_MAX, TRIM_ROT_MAX)

    def _forget(self) -> None:
        """Nobody is sure any more what the other side was told last."""
        self._commanded = self._meant = None

    def _registers(self, name: str) -> F64:
        """[n] one register of the motors that answer."""
        values = self._custom(name)
        if values is None or isinstance(values, dict):
            raise self._line.silent(name, f"{values!r} in place of registers")
        return np.asarray(values, dtype=np.float64).ravel()

    def _currents(self) -> F64 | None:
        efforts = self._custom("joint_efforts")
        if efforts is None:
            raise self._line.silent("joint_efforts", "no answer in time")
        if not isinstance(efforts, dict) or not set(MOTORS) <= set(efforts):
            return None  # an older version
        return np.array([float(efforts[name]) for name in MOTORS])

    def _custom(self, name: str, **arguments: object) -> Any:
        return self._line.ask(name, lambda: self._client.custom_fn(name, **arguments))


def euler_as_they_do(rotation: F64) -> F64:
    """Roll, pitch, yaw [3] of a rotation matrix exactly as the package computes them, singular case included.

    It differs from `conventions.euler_of_rotation` at straight down only: there yaw is 0 and roll takes all.
    """
    level = float(np.hypot(rotation[0, 0], rotation[1, 0]))
    pitch = np.arctan2(-rotation[2, 0], level)
    if level < SINGULAR_BELOW:
        return np.array([np.arctan2(-rotation[1, 2], rotation[1, 1]), pitch, 0.0])
    roll = np.arctan2(rotation[2, 1], rotation[2, 2])
    return np.array([roll, pitch, np.arctan2(rotation[1, 0], rotation[0, 0])])


def clear_of_singularity(euler: F64, azimuth: float) -> F64:
    """The same angles [3], or, too near to straight down, those of a gripper that leans by SINGULAR_CONE.

    It leans towards `azimuth` (radians), the way it leaned before; its turn about the vertical stays.
    """
    roll, pitch, yaw = euler
    if abs(pitch) <= np.pi / 2 - SINGULAR_CONE:
        return euler
    side = 1.0 if pitch > 0 else -1.0
    return np.array([roll - side * (yaw - azimuth), side * (np.pi / 2 - SINGULAR_CONE), azimuth])


def error_words(register: int) -> str:
    """What a motor's error register says; "" when it is well."""
    words = [word for bit, word in REGISTER.items() if register & bit]
    if not register:
        return ""
    return f"{', '.join(words) or 'unknown'} (hardware error 0x{register:02x})"


def _small_turn(rotation: F64) -> F64:
    """Rotation vector [3] of a small rotation."""
    return 0.5 * np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
