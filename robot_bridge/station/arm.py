"""One thread that owns the driver, so that requests from many threads reach simulator and camera from one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from robot_bridge.conventions import Pose
from robot_bridge.drivers.driver import DriverDescription, RobotDriver, Sample, StepOutcome


class ArmThread:
    """A RobotDriver that runs another one's calls on its own thread, one after the other."""

    def __init__(self, driver: RobotDriver) -> None:
        self._driver = driver
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="arm")
        self._description = self._thread.submit(lambda: driver.description).result()

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

    def success(self) -> bool:
        return self._thread.submit(self._driver.success).result()

    def close(self) -> None:
        """Close the driver where it lived, then end the thread; nothing may be called afterwards."""
        self._thread.submit(self._driver.close).result()
        self._thread.shutdown()
