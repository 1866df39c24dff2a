"""The arm thread: every call of a driver comes from one thread, whoever asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from robot_bridge.conventions import Pose
from robot_bridge.drivers.driver import DriverDescription, Sample, StepOutcome
from robot_bridge.errors import DriverDisconnected, UnknownTask
from robot_bridge.station.arm import ArmThread
from tests.robot_bridge.toy_driver import ToyDriver
from tests.waiting import until


class Watched(ToyDriver):
    """The toy robot, noting from which thread each of its methods is called and whether two overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()
        self.overlaps = 0
        self._inside = threading.Lock()

    def _note(self) -> None:
        self.threads.add(threading.current_thread().name)

    @property
    def description(self) -> DriverDescription:
        self._note()
        return super().description

    @property
    def target(self) -> Pose:
        self._note()
        return super().target

    def reset(self, task_id: str, *, seed: int) -> Sample:
        self._note()
        return super().reset(task_id, seed=seed)

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        self._note()
        if not self._inside.acquire(blocking=False):
            self.overlaps += 1
            return super().step(target, gripper)
        try:
            return super().step(target, gripper)
        finally:
            self._inside.release()

    def success(self) -> bool:
        self._note()
        return super().success()

    def close(self) -> None:
        self._note()
        super().close()


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def arm(watched: Watched) -> Iterator[ArmThread]:
    arm = ArmThread(watched)
    yield arm
    if not watched.closed:
        arm.close()


def test_all_calls_reach_the_driver_from_one_thread_that_is_not_the_callers(arm, watched):
    assert arm.description.robot_model == "toy"
    arm.reset("open_drawer", seed=1)
    outcome = arm.step(arm.target, 0.5)
    assert outcome.sample.proprio[6] == pytest.approx(0.5)
    assert arm.success() is False
    arm.close()
    assert len(watched.threads) == 1
    assert threading.current_thread().name not in watched.threads
    assert watched.closed == 1


def test_calls_from_many_threads_come_one_after_the_other(arm, watched):
    arm.reset("open_drawer", seed=1)
    target = arm.target
    with ThreadPoolExecutor(max_workers=8) as callers:
        times = [o.sample.captured_at for o in callers.map(lambda _: arm.step(target, 1.0), range(40))]
    assert watched.moves == 40
    assert watched.overlaps == 0
    assert len(set(times)) == 40


def test_what_the_driver_raises_reaches_the_caller(arm):
    with pytest.raises(UnknownTask, match="fold_cloth"):
        arm.reset("fold_cloth", seed=0)
    assert arm.reset("open_drawer", seed=0).proprio.shape == (7,)


def test_an_error_of_nobodys_is_an_arm_that_went_silent(watched, caplog):
    class Broken(Watched):
        def step(self, target: Pose, gripper: float) -> StepOutcome:
            raise ZeroDivisionError("in the vendor's library")

        def close(self) -> None:
            super().close()
            raise OSError("port gone")

    broken = Broken()
    arm = ArmThread(broken)
    arm.reset("open_drawer", seed=1)
    with pytest.raises(DriverDisconnected, match="ZeroDivisionError") as silent:
        arm.step(arm.target, 1.0)
    assert silent.value.parts["call"] == "step"
    assert "driver broke call=step" in caplog.text
    assert arm.success() is False  # the thread lives on
    with pytest.raises(DriverDisconnected, match="port gone"):
        arm.close()
    assert broken.closed == 1


def test_every_other_call_goes_through_the_thread_too(arm, watched):
    for call in (arm.hold, arm.park, arm.reboot_motors, arm.sleep, arm.wake):
        call()
    assert watched.calls == ["hold", "park", "reboot_motors", "sleep", "wake"]
    assert len(arm.motors()) == 7
    assert arm.arm is None


class Stuck(Watched):
    """The toy robot, whose vendor's library does not come back from a step until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.stepping = threading.Event()

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        self.stepping.set()
        assert self.go.wait(60.0)
        return super().step(target, gripper)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    driver = Stuck()
    yield driver
    driver.go.set()


def test_a_call_that_does_not_come_back_is_an_arm_that_went_silent(stuck, caplog):
    arm = ArmThread(stuck, call_s=0.3)
    target = arm.target
    with pytest.raises(DriverDisconnected, match=r"not back after 0\.3 s") as silent:
        arm.step(target, 1.0)
    assert silent.value.parts["call"] == "step"
    assert "driver hangs call=step" in caplog.text
    begun = time.monotonic()
    for call in (arm.hold, arm.motors, arm.close):
        with pytest.raises(DriverDisconnected, match="during step"):
            call()
    assert time.monotonic() - begun < 0.3, "who comes later is told at once"
    assert (stuck.calls, stuck.closed) == ([], 0)


def test_a_driver_that_comes_back_late_is_used_again_and_makes_up_for_nothing(stuck):
    arm = ArmThread(stuck, call_s=0.2)
    target = arm.target
    for _ in range(2):
        with pytest.raises(DriverDisconnected):
            arm.step(target, 1.0)
    stuck.go.set()
    until(lambda: stuck.moves == 1, "the end of the step")
    arm.hold()
    assert stuck.moves == 1
    arm.close()


def test_who_waits_for_a_long_motion_of_another_is_not_late_himself():
    class Slow(Stuck):
        def reset(self, task_id: str, *, seed: int) -> Sample:
            self.stepping.set()
            assert self.go.wait(60.0)
            return super().reset(task_id, seed=seed)

    slow = Slow()
    arm = ArmThread(slow, call_s=0.2, motion_s=30.0)
    with ThreadPoolExecutor(max_workers=2) as callers:
        resetting = callers.submit(arm.reset, "open_drawer", seed=1)
        assert slow.stepping.wait(10.0)
        looking = callers.submit(arm.motors)
        with pytest.raises(TimeoutError):
            looking.result(timeout=1.0)
        slow.go.set()
        assert len(looking.result(timeout=10.0)) == 7
        resetting.result(timeout=10.0)
    arm.close()


def test_a_driver_that_is_closed_is_called_no_more(arm):
    arm.close()
    with pytest.raises(DriverDisconnected, match="the driver is closed"):
        arm.hold()
