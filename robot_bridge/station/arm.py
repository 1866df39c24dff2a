"""One thread that owns the driver, so that requests from many threads reach simulator and camera from one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from robot_bridge.conventions import Pose
from robot_bridge.drivers.driver import (
    ArmModel,
    DriverDescription,
    Interruptible,
    MotorReading,
    RobotDriver,
    Sample,
    StepOutcome,
)
from robot_bridge.errors import DriverDisconnected, RobotBridgeError

log = logging.getLogger(__name__)

INTERFACE = "driver"

AnswerT = TypeVar("AnswerT")


class ArmThread:
    """A RobotDriver that runs another one's calls on its own thread, one after the other.

    An error that is none of `robot_bridge.errors` comes out as DriverDisconnected: nobody knows what the
    arm did before it.
    """

    def __init__(self, driver: RobotDriver) -> None:
        self._driver = driver
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="arm")
        self._description = self._thread.submit(lambda: driver.description).result()
        self._arm = self._thread.submit(lambda: driver.arm).result()

    @property
    def description(self) -> DriverDescription:
        return self._description

    @property
    def target(self) -> Pose:
        return self._call("target", lambda: self._driver.target)

    def reset(self, task_id: str, *, seed: int) -> Sample:
        return self._call("reset", lambda: self._driver.reset(task_id, seed=seed))

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        return self._call("step", lambda: self._driver.step(target, gripper))

    @property
    def arm(self) -> ArmModel | None:
        return self._arm

    def hold(self) -> None:
        self._call("hold", self._driver.hold)

    def heed(self, stopped: Callable[[], bool]) -> None:
        """Tell a driver whose motions take time; `stopped` is asked on the arm's thread."""
        if isinstance(self._driver, Interruptible):
            self._driver.heed(stopped)

    def park(self) -> None:
        self._call("park", self._driver.park)

    def motors(self) -> tuple[MotorReading, ...]:
        return self._call("motors", self._driver.motors)

    def reboot_motors(self) -> None:
        self._call("reboot_motors", self._driver.reboot_motors)

    def sleep(self) -> None:
        self._call("sleep", self._driver.sleep)

    def wake(self) -> None:
        self._call("wake", self._driver.wake)

    def success(self) -> bool | None:
        return self._call("success", self._driver.success)

    def close(self) -> None:
        """Close the driver where it lived, then end the thread; nothing may be called afterwards."""
        try:
            self._call("close", self._driver.close)
        finally:
            self._thread.shutdown()

    def _call(self, name: str, call: Callable[[], AnswerT]) -> AnswerT:
        future = self._thread.submit(call)
        error = future.exception()
        if error is None or isinstance(error, RobotBridgeError):
            return future.result()
        log.error("driver broke call=%s error=%r", name, error, exc_info=error)
        raise DriverDisconnected(interface=INTERFACE, call=name, reason=repr(error)) from error
