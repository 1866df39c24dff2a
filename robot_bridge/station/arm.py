"""One thread that owns the driver, so that requests from many threads reach simulator and camera from one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from robot_bridge.conventions import Pose
from robot_bridge.drivers.driver import (
    ArmModel,
    DriverDescription,
    MotorReading,
    RobotDriver,
    Sample,
    StepOutcome,
)


class ArmThread:
    """A RobotDriver that runs another one's calls on its own thread, one after the other."""

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
        return self._thread.submit(lambda: self._driver.target).result()

    def reset(self, task_id: str, *, seed: int) -> Sample:
        return self._thread.submit(self._driver.reset, task_id, seed=seed).result()

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        return self._thread.submit(self._driver.step, target, gripper).result()

    @property
    def arm(self) -> ArmModel | None:
        return self._arm

    def hold(self) -> None:
        self._thread.submit(self._driver.hold).result()

    def park(self) -> None:
        self._thread.submit(self._driver.park).result()

    def motors(self) -> tuple[MotorReading, ...]:
        return self._thread.submit(self._driver.motors).result()

    def reboot_motors(self) -> None:
        self._thread.submit(self._driver.reboot_motors).result()

    def sleep(self) -> None:
        self._thread.submit(self._driver.sleep).result()

    def wake(self) -> None:
        self._thread.submit(self._driver.wake).result()

    def success(self) -> bool | None:
        return self._thread.submit(self._driver.success).result()

    def close(self) -> None:
        """Close the driver where it lived, then end the thread; nothing may be called afterwards."""
        self._thread.submit(self._driver.close).result()
        self._thread.shutdown()
