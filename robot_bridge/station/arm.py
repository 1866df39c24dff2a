"""One thread that owns the driver, so that requests from many threads reach simulator and camera from one."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from robot_bridge.conventions import Pose
from robot_bridge.drivers.driver import (
    ArmModel,
    DriverDescription,
    Interruptible,
    Looking,
    MotorReading,
    RobotDriver,
    Sample,
    StepOutcome,
)
from robot_bridge.errors import DriverDisconnected, RobotBridgeError

log = logging.getLogger(__name__)

INTERFACE = "driver"
CALL_S: Final = 30.0  # for a step, a look, a question; a step of any driver takes less than a second
MOTION_S: Final = 120.0  # for a reset of the scene, a park, a start of the motors, a close
LOOK_S: Final = 0.25  # between two looks whether the call in the thread is late

AnswerT = TypeVar("AnswerT")


@dataclass(slots=True, kw_only=True, eq=False)
class _Call:
    """One call on its way to the driver, or in it since `begun` (monotonic seconds)."""

    name: str
    work: Callable[[], Any]
    limit_s: float
    answer: Future[Any] = field(default_factory=Future)
    begun: float | None = None

    @property
    def is_late(self) -> bool:
        return (
            self.begun is not None and not self.answer.done() and time.monotonic() - self.begun > self.limit_s
        )


class ArmThread:
    """A RobotDriver that runs another one's calls on its own thread, one after the other.

    An error that is none of `robot_bridge.errors` comes out as DriverDisconnected: nobody knows what the
    arm did before it. So does a call that does not come back in time, and every other one until it does; a
    driver that hangs keeps no program from ending.

    Args:
        call_s: for calls that move the arm one step or not at all, in seconds from when the driver has them.
        motion_s: for all others.
    """

    def __init__(self, driver: RobotDriver, *, call_s: float = CALL_S, motion_s: float = MOTION_S) -> None:
        self._driver = driver
        self._call_s, self._motion_s = call_s, motion_s
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._inside: _Call | None = None
        self._thread = threading.Thread(target=self._run, name="arm", daemon=True)
        self._thread.start()
        self._description = self._call("description", lambda: driver.description)
        self._arm = self._call("arm", lambda: driver.arm)

    @property
    def description(self) -> DriverDescription:
        return self._description

    @property
    def target(self) -> Pose:
        return self._call("target", lambda: self._driver.target)

    def reset(self, task_id: str, *, seed: int) -> Sample:
        return self._motion("reset", lambda: self._driver.reset(task_id, seed=seed))

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

    def look(self) -> Sample | None:
        """What a driver that can look sees; None of one that shows pictures only while it moves."""
        driver = self._driver
        return self._call("look", driver.look) if isinstance(driver, Looking) else None

    def park(self) -> None:
        self._motion("park", self._driver.park)

    def motors(self) -> tuple[MotorReading, ...]:
        return self._call("motors", self._driver.motors)

    def reboot_motors(self) -> None:
        self._motion("reboot_motors", self._driver.reboot_motors)

    def sleep(self) -> None:
        self._motion("sleep", self._driver.sleep)

    def wake(self) -> None:
        self._motion("wake", self._driver.wake)

    def success(self) -> bool | None:
        return self._call("success", self._driver.success)

    def close(self) -> None:
        """Close the driver where it lived, then end the thread; nothing may be called afterwards."""
        try:
            self._motion("close", self._driver.close)
        finally:
            self._calls.put(None)
            if self._late() is None:
                self._thread.join(self._motion_s)

    def _motion(self, name: str, work: Callable[[], AnswerT]) -> AnswerT:
        return self._call(name, work, limit_s=self._motion_s)

    def _call(self, name: str, work: Callable[[], AnswerT], *, limit_s: float | None = None) -> AnswerT:
        call = _Call(name=name, work=work, limit_s=limit_s or self._call_s)
        self._calls.put(call)
        error = self._ended(call)
        if error is None:
            return cast(AnswerT, call.answer.result())
        if isinstance(error, RobotBridgeError):
            raise error
        log.error("driver broke call=%s error=%r", name, error, exc_info=error)
        raise DriverDisconnected(interface=INTERFACE, call=name, reason=repr(error)) from error

    def _ended(self, call: _Call) -> BaseException | None:
        """What a call raised, once it has ended.

        Raises:
            DriverDisconnected: it, or the one before it, does not come back.
        """
        while True:
            try:
                return call.answer.exception(timeout=0.0 if self._late() else LOOK_S)
            except TimeoutError:
                late = self._late()
                if late is None and self._thread.is_alive():
                    continue
            call.answer.cancel()  # one that has not begun never will
            reason = "the driver is closed" if late is None else f"not back after {late.limit_s:g} s"
            name = call.name if late is None else late.name
            log.error("driver hangs call=%s reason=%s", name, reason)
            raise DriverDisconnected(interface=INTERFACE, call=name, reason=reason)

    def _late(self) -> _Call | None:
        """The call in the driver, if it should have come back."""
        inside = self._inside
        return inside if inside is not None and inside.is_late else None

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            if not call.answer.set_running_or_notify_cancel():
                continue
            call.begun, self._inside = time.monotonic(), call
            try:
                call.answer.set_result(call.work())
            except BaseException as error:  # whatever it is belongs to the one who asked
                call.answer.set_exception(error)
            self._inside = None
