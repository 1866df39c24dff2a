"""Robots that are wrong in one way each, and a run of the check on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from robot_bridge.check.bring_up import CheckPlan, run_check
from robot_bridge.check.verdicts import CheckReport
from robot_bridge.conventions import (
    Pose,
    compose_target,
    delta_between,
    euler_of_rotation,
    rotation_of_euler,
)
from robot_bridge.drivers.driver import DriverDescription, MotorReading, RobotDriver, Sample, StepOutcome
from tests.robot_bridge.builders import Clock
from tests.robot_bridge.toy_driver import ToyDriver


class Described(ToyDriver):
    """A toy that says other things of itself."""

    def __init__(self, **said: Any) -> None:
        super().__init__()
        self._said = said

    @property
    def description(self) -> DriverDescription:
        return replace(super().description, **self._said)


class Changed(ToyDriver):
    """A toy whose samples, targets or motors are changed on the way."""

    def __init__(
        self,
        *,
        sample: Callable[[Sample], Sample] = lambda sample: sample,
        target: Callable[[Pose, Pose], Pose] = lambda _, target: target,
        motor: Callable[[MotorReading], MotorReading] = lambda motor: motor,
    ) -> None:
        super().__init__()
        self.on_sample, self.on_target, self.on_motor = sample, target, motor
        self._asked = super().target

    @property
    def target(self) -> Pose:
        return self._asked

    def reset(self, task_id: str, *, seed: int) -> Sample:
        sample = super().reset(task_id, seed=seed)
        self._asked = super().target
        return self.on_sample(sample)

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        went = self.on_target(super().target, relative(super().target, self._asked, target))
        outcome = super().step(went, gripper)
        self._asked = target
        return replace(outcome, sample=self.on_sample(outcome.sample), target=target)

    def motors(self) -> tuple[MotorReading, ...]:
        return tuple(self.on_motor(motor) for motor in super().motors())


def relative(held: Pose, before: Pose, after: Pose) -> Pose:
    """The target that differs from the one held as the one asked for now differs from the one before."""
    return compose_target(held, np.append(delta_between(before, after), 0.0))


def euler_adding(held: Pose, target: Pose) -> Pose:
    """What an arm makes of a turn when it adds the angles to its own Euler angles (SimplerEnv#78)."""
    turn = delta_between(held, target)[3:]
    if not turn.any():
        return target
    return Pose(target.position, rotation_of_euler(euler_of_rotation(held.rotation) + turn))


def checked(
    driver: RobotDriver,
    *,
    answer: bool = True,
    plan: CheckPlan | None = None,
    clock: Callable[[], float] | None = None,
    lines: list[str] | None = None,
) -> CheckReport:
    """The report of a check in which somebody answers every question alike."""
    said: list[str] = [] if lines is None else lines
    return run_check(
        driver, clock=clock or Clock(), ask=lambda _: answer, report=said.append, plan=plan or CheckPlan()
    )


def names(report: CheckReport, verdict: str) -> list[str]:
    return [item.name for item in report.items if item.verdict == verdict]


def found(report: CheckReport, name: str) -> str:
    return next(item.found for item in report.items if item.name == name)
