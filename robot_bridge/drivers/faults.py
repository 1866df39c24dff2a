"""A driver around a driver that makes things go wrong: by a seeded plan, or on command. For tests and soaks.

It obeys `RobotDriver`, so a station cannot tell it from hardware on a bad day. It also counts every motion
that really happened, and can write each down at once: that file survives a killed station, and proves whether
a step was executed twice. The kinds of faults are in `fault_plan`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np

from robot_bridge.conventions import Pose
from robot_bridge.drivers.driver import (
    ArmModel,
    DriverDescription,
    MotorReading,
    RobotDriver,
    Sample,
    StepOutcome,
)
from robot_bridge.drivers.fault_plan import (
    FAULT_KINDS,
    STEP_ONLY,
    FaultKind,
    FaultPlan,
    FaultPlanInvalid,
    every_fault,
)
from robot_bridge.errors import CameraStale, DriverDisconnected, MotorFault, NeedsHuman

__all__ = [
    "FAULT_KINDS",
    "FaultKind",
    "FaultPlan",
    "FaultPlanInvalid",
    "FaultyDriver",
    "every_fault",
    "kill_this_process",
]


Switch: TypeAlias = Literal["on", "off"]

CAMERA_DEAD_AFTER_S: Final = 1.0  # age at which a driver itself gives its camera up
OVERLOAD_SHARE: Final = 2.5  # of the effort limit
OVERLOADED_MOTOR: Final = "shoulder"
OVERLOAD: Final = "overload (hardware error 0x20)"


def kill_this_process() -> None:
    """End as a power cut would: no cleanup, no exit handlers."""
    os.kill(os.getpid(), signal.SIGKILL)


class FaultyDriver:
    """`driver`, with faults. What is broken already stays broken when they are switched off.

    Attributes:
        faults: "on" or "off", at any time.
        injected: how often each kind was started.
        motions: how often the inner driver was really moved by a step. A target that an injected IK failure
            refused is none.
        log: gets one JSON line per such motion (n, reset, position, gripper), written just before it.
    """

    def __init__(
        self,
        driver: RobotDriver,
        *,
        plan: FaultPlan,
        sleep: Callable[[float], None] = time.sleep,
        die: Callable[[], None] = kill_this_process,
        log: Path | None = None,
    ) -> None:
        self.faults: Switch = "on"
        self.injected: Counter[FaultKind] = Counter()
        self.motions = 0
        self.log = log
        self._driver, self._plan = driver, plan
        self._sleep, self._die = sleep, die
        self._random = np.random.default_rng(plan.seed)
        self._wanted: list[FaultKind] = []
        self._camera: FaultKind | None = None  # what is wrong with it
        self._overloaded = False
        self._lost = False
        self._resets = 0
        self._last: Sample | None = None  # the newest picture that a working camera took
        self._dark_s = 0.0  # how long a dead camera has been dead

    @property
    def description(self) -> DriverDescription:
        return self._driver.description

    @property
    def target(self) -> Pose:
        return self._driver.target

    @property
    def arm(self) -> ArmModel | None:
        return self._driver.arm

    @property
    def inner(self) -> RobotDriver:
        """The driver behind the faults."""
        return self._driver

    def inject(self, kind: FaultKind) -> None:
        """Let the next step or reset have this fault, whatever the plan says, also while faults are off.

        Raises:
            FaultPlanInvalid: there is no such kind.
        """
        if kind not in FAULT_KINDS:
            raise FaultPlanInvalid(thing="kind", expected=f"one of {FAULT_KINDS}", found=repr(kind))
        self._wanted.append(kind)

    def reset(self, task_id: str, *, seed: int) -> Sample:
        kind = self._next(self._plan.per_reset, step=False)
        self._camera, self._dark_s, self._lost = None, 0.0, False
        if self._plan.reset_reboots:
            self._overloaded = False
        self._begin(kind)
        if self._overloaded:
            raise MotorFault(motor=OVERLOADED_MOTOR, fault=OVERLOAD)
        if self._lost:
            raise NeedsHuman(reason=f"the object of {task_id} is not in reach of the arm")
        sample = self._driver.reset(task_id, seed=seed)
        self._resets += 1
        self._end(kind, call="reset")
        if self._camera == "dead_camera":
            raise self._stale(CAMERA_DEAD_AFTER_S)
        return self._seen(sample)

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        if self._overloaded:
            raise MotorFault(motor=OVERLOADED_MOTOR, fault=OVERLOAD)
        kind = self._next(self._plan.per_step, step=True)
        self._begin(kind)
        if kind == "ik_failure":
            held = self._driver.step(self._driver.target, gripper)
            return StepOutcome(sample=self._seen(held.sample), ik_ok=False, target=self._driver.target)
        self._write_down(target, gripper)
        outcome = self._driver.step(target, gripper)
        self._end(kind, call="step")
        return replace(outcome, sample=self._seen(outcome.sample))

    def hold(self) -> None:
        self._driver.hold()

    def park(self) -> None:
        self._driver.park()

    def motors(self) -> tuple[MotorReading, ...]:
        limit = self.description.effort_max_mA
        return tuple(
            replace(motor, error=OVERLOAD, current_mA=OVERLOAD_SHARE * limit)
            if self._overloaded and motor.name == OVERLOADED_MOTOR
            else motor
            for motor in self._driver.motors()
        )

    def reboot_motors(self) -> None:
        self._driver.reboot_motors()
        self._overloaded = False

    def sleep(self) -> None:
        self._driver.sleep()

    def wake(self) -> None:
        self._driver.wake()

    def success(self) -> bool | None:
        return None if self._lost else self._driver.success()

    def close(self) -> None:
        self._driver.close()

    def _next(self, chances: Mapping[FaultKind, float], *, step: bool) -> FaultKind | None:
        """The fault of this call; draws also while faults are off, so that the plan stays the same."""
        draw = float(self._random.random())
        for kind in self._wanted:
            if step or kind not in STEP_ONLY:
                self._wanted.remove(kind)
                return kind
        if self.faults == "off":
            return None
        for kind in FAULT_KINDS:
            draw -= chances.get(kind, 0.0)
            if draw < 0.0:
                return kind
        return None

    def _begin(self, kind: FaultKind | None) -> None:
        """What goes wrong before the arm moves."""
        if kind is None:
            return
        self.injected[kind] += 1
        if kind in ("dead_camera", "frozen_camera", "black_camera"):
            self._camera = kind
        elif kind == "motor_overload":
            self._overloaded = True
        elif kind == "lost_object":
            self._lost = True
        elif kind == "latency_spike":
            self._sleep(self._plan.spike_s)

    def _end(self, kind: FaultKind | None, *, call: str) -> None:
        """What goes wrong after it moved."""
        if kind == "crash":
            self._die()
        if kind in ("crash", "disconnect"):
            raise DriverDisconnected(interface="faulty driver", call=call, reason=f"injected {kind}")

    def _seen(self, sample: Sample) -> Sample:
        """The sample as the broken camera and motors show it."""
        if self._overloaded:
            effort = sample.effort_mA.copy()
            effort[1] = -OVERLOAD_SHARE * self.description.effort_max_mA
            sample = replace(sample, effort_mA=effort)
        if self._last is None:
            self._last = sample
        last = self._last
        if self._camera == "dead_camera":
            self._dark_s += 1.0 / self.description.control_hz
            if self._dark_s > CAMERA_DEAD_AFTER_S:
                raise self._stale(self._dark_s)
            return replace(sample, image=last.image, seq=last.seq, age_s=last.age_s + self._dark_s)
        if self._camera == "frozen_camera":
            return replace(sample, image=last.image)
        if self._camera == "black_camera":
            return replace(sample, image=np.zeros_like(sample.image))
        self._last = sample
        return sample

    def _stale(self, age_s: float) -> CameraStale:
        name = self.description.camera.name
        return CameraStale(camera=name, age_s=round(age_s, 3), limit_s=CAMERA_DEAD_AFTER_S)

    def _write_down(self, target: Pose, gripper: float) -> None:
        """Count a motion just before it: a process that dies in it has counted it."""
        self.motions += 1
        if self.log is None:
            return
        motion = {
            "n": self.motions,
            "reset": self._resets,
            "position": target.position.tolist(),
            "gripper": gripper,
        }
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(motion) + "\n")
