"""A real WidowX-250s through `widowx_envs`, the service of bridge_data_robot that many labs run.

The package is the lab's own; see INSTALL. Its client speaks to a service that answers with status codes, or
not at all: then the client gives up after 800 ms while the motion goes on. So:

* Motion goes out as `move` with an absolute 4x4 pose, never as `step_action`. That one adds its delta to a
  target of the service's own, turns it about the *measured* gripper, clips it to a box of its own and moves
  its target on even when inverse kinematics failed: two authorities over one target, which a lost answer
  drives apart. An absolute pose means the same however often and in whatever state it arrives.
* `move` goes out non-blocking and for one control period. In some versions a non-blocking move ignores its
  duration and goes at full speed (bridge_data_robot#10), so no message asks for more than one small step:
  homing and parking are many of them. `reset` of the service, four seconds and more, is never called.
* The service swallows failed inverse kinematics ("do nothing", status SUCCESS). It is solved here first.
* `init` drives the arm to its neutral pose, so it happens at the first reset, and only if the service was not
  initialised by somebody else.

What the interface does not tell: joints (solved here, unless the service sends `qpos`), currents (zero,
unless it sends `joint_effort`), error registers, torque. It has no call to switch the torque off.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from robot_bridge.conventions import (
    F64,
    FINGER_CLOSED,
    FINGER_SPAN,
    Pose,
    pose_of_vector,
)
from robot_bridge.drivers import kinematics
from robot_bridge.drivers.driver import MotorReading
from robot_bridge.drivers.lab_camera import decode_swapped_jpeg
from robot_bridge.drivers.lab_link import NotInitialised, Seen
from robot_bridge.drivers.lab_package import LabLine, lab_module
from robot_bridge.drivers.long_way import PERIOD_S
from robot_bridge.errors import DriverDisconnected, MotorFault

log = logging.getLogger(__name__)

INTERFACE: Final = "widowx_envs"
MODULE: Final = "widowx_envs.widowx_env_service"
INSTALL: Final = (
    "widowx_envs of github.com/rail-berkeley/bridge_data_robot and edgeml of github.com/youliangtan/edgeml "
    "into this environment; the `edgeml` on PyPI is an unrelated package, do not take that one"
)
DEFAULT_ADDRESS: Final = "127.0.0.1:5556"  # the service has no authentication: loopback or a closed network
IMAGE_SIZE: Final = 256  # of the small picture that nobody here reads
NO_CONNECTION, SUCCESS, EXECUTION_FAILURE, NOT_INITIALIZED = range(4)  # the service's status codes
INIT_TIMEOUT_S: Final = 60.0  # the first start of its environment takes about ten seconds
INIT_POLL_S: Final = 1.0
OBSERVE_TRIES: Final = 2  # asking again for a picture moves nothing
MOTORS: Final = (*kinematics.JOINT_NAMES, "gripper")


class WidowXEnvsLink:
    """One connection to the service; a `LabLink`.

    Raises:
        LabPackageMissing: the lab's package is not installed here.
        DriverDisconnected: no service at that address.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        env_params: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._module = lab_module(MODULE, install=INSTALL)
        self._line = LabLine(INTERFACE)
        self._client = self._line.ask("connect", lambda: self._module.WidowXClient(host=host, port=port))
        self._env_params = env_params
        self._clock, self._sleep = clock, sleep
        self._fault = ""  # what the service gave up last, until a reboot
        self._currents: F64 | None = None

    @property
    def interface(self) -> str:
        return INTERFACE

    def prepare(self) -> None:
        """Initialise the service if nobody has, and wait until it shows a real arm."""
        if self._is_initialised():
            return
        default = self._module.WidowXConfigs.DefaultEnvParams
        params = dict(default if self._env_params is None else self._env_params)
        log.info("service initialised interface=%s: the arm goes to its neutral pose", INTERFACE)
        status = self._line.ask("init", lambda: self._client.init(params, image_size=IMAGE_SIZE))
        if status not in (
            NO_CONNECTION,
            SUCCESS,
        ):  # no answer is normal: it takes longer than the client waits
            self._require(status, call="init")
        deadline = self._clock() + INIT_TIMEOUT_S
        while not self._is_initialised():
            if self._clock() >= deadline:
                raise self._line.silent("init", f"no observation of an arm within {INIT_TIMEOUT_S} s")
            self._sleep(INIT_POLL_S)

    def look(self) -> Seen:
        answer = self._observation()
        if answer is None:
            raise self._line.silent("get_observation", f"no answer in {OBSERVE_TRIES} tries")
        if not _shows_an_arm(answer):
            reason = "the service is not initialised"
            raise NotInitialised(interface=INTERFACE, call="get_observation", reason=reason)
        state = np.asarray(answer["state"], dtype=np.float64)
        picture = answer["full_image"]
        if isinstance(picture, bytes):  # some versions leave the decoding to us
            picture = decode_swapped_jpeg(picture)
        return Seen(
            picture=np.asarray(picture),
            pose=pose_of_vector(state),
            finger=FINGER_CLOSED + FINGER_SPAN * float(state[6]),
            joints=_numbers(answer.get("qpos"), 6),
            currents=self._remember_currents(_numbers(answer.get("joint_effort"), 6)),
        )

    def move(self, target: Pose) -> None:
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = target.rotation, target.position
        status = self._line.ask("move", lambda: self._client.move(pose, duration=PERIOD_S, blocking=False))
        self._require(status, call="move")

    def stay(self, here: Pose) -> None:
        self.move(here)

    def lie_down(self) -> bool:
        return False

    def grip(self, opening: float) -> None:
        status = self._line.ask("move_gripper", lambda: self._client.move_gripper(opening))
        self._require(status, call="move_gripper")

    def motors(self) -> tuple[MotorReading, ...]:
        """What the service lets one know: currents if it sends them, and whether it gave a motion up.

        Its torque cannot be read; an arm that dropped shows in its pose.
        """
        currents = [None] * len(MOTORS) if self._currents is None else [float(mA) for mA in self._currents]
        return tuple(
            MotorReading(name=name, torque=True, error=self._fault, current_mA=current)
            for name, current in zip(MOTORS, currents, strict=True)
        )

    def reboot(self, names: Sequence[str]) -> None:
        """One motor after the other. The service never says how it ended: the next motion does."""
        reboot = getattr(self._client, "reboot_motor", None)
        if reboot is None:
            fault = (
                "this version of widowx_envs has no WidowXClient.reboot_motor; power-cycle the arm by hand"
            )
            raise MotorFault(motor=", ".join(names), fault=fault)
        for name in names:
            self._line.ask("reboot_motor", partial(reboot, name))
        self._fault = ""

    def torque(self, on: bool) -> bool:
        return False

    def close(self) -> None:
        try:
            self._line.ask("stop", self._client.stop)
        except DriverDisconnected as silent:
            log.warning("connection not closed cleanly interface=%s reason=%s", INTERFACE, silent)

    def _observation(self) -> dict[str, Any] | None:
        for _ in range(OBSERVE_TRIES):
            answer: dict[str, Any] | None = self._line.ask("get_observation", self._client.get_observation)
            if answer is not None:
                return answer
        return None

    def _is_initialised(self) -> bool:
        """Whether a real arm answers; a service without one sends noise and an empty state, or chokes."""
        try:
            answer = self._observation()
        except DriverDisconnected:
            return False
        return answer is not None and _shows_an_arm(answer)

    def _require(self, status: object, *, call: str) -> None:
        if status == SUCCESS:
            return
        if status == EXECUTION_FAILURE:
            self._fault = "motion given up above the service's effort limit"
            fault = "too much effort: the service opened the gripper and drove to its neutral pose"
            raise MotorFault(motor="of the arm (the service does not say which)", fault=fault)
        if status == NOT_INITIALIZED:
            raise self._line.silent(call, "the service is not initialised: it was started anew")
        if status == NO_CONNECTION:
            raise self._line.silent(call, "no answer in time; the arm may have moved")
        raise self._line.silent(call, f"status {status!r}, which it does not have")

    def _remember_currents(self, arm: F64 | None) -> F64 | None:
        self._currents = None if arm is None else np.append(arm, 0.0)
        return self._currents


def _shows_an_arm(answer: Mapping[str, Any]) -> bool:
    state = answer.get("state")
    return not isinstance(state, dict) and _numbers(state, 7) is not None


def _numbers(values: object, count: int) -> F64 | None:
    """The first `count` of a row of finite numbers, or None when it is no such row."""
    if not isinstance(values, list | tuple | np.ndarray):
        return None
    row = np.asarray(values, dtype=np.float64).ravel()
    return row[:count] if len(row) >= count and np.isfinite(row[:count]).all() else None
