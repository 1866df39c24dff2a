"""The real drivers over their emulated packages, with a virtual clock."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from typing import Any

import pytest

from robot_bridge.drivers.lab_tasks import AUTOEVAL_TASKS
from robot_bridge.drivers.manipulator_gym import ManipulatorGymLink
from robot_bridge.drivers.real_arm import RealWidowX
from robot_bridge.drivers.widowx_envs import WidowXEnvsLink
from tests.robot_bridge.drivers_real import fake_manipulator_gym, fake_widowx_envs
from tests.robot_bridge.drivers_real.lab_arm import Arm, Camera, Line, VirtualTime

PATIENCE_S = 0.3  # real seconds before a read that never comes back is given up


@dataclass
class Lab:
    """A driver, and the other side of its line."""

    name: str
    driver: RealWidowX
    server: Any

    @property
    def arm(self) -> Arm:
        return self.server.arm  # type: ignore[no-any-return]

    @property
    def camera(self) -> Camera:
        return self.server.camera  # type: ignore[no-any-return]

    @property
    def line(self) -> Line:
        return self.server.line  # type: ignore[no-any-return]

    @property
    def time(self) -> VirtualTime:
        return self.server.time  # type: ignore[no-any-return]

    def cut(self) -> None:
        self.line.cut = True
        self.line.back.clear()

    def mend(self) -> None:
        self.line.cut = False
        self.line.back.set()


def install(monkeypatch: pytest.MonkeyPatch, module: types.ModuleType) -> None:
    """Make a module and the packages above it importable."""
    parts = module.__name__.split(".")
    for depth in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), types.ModuleType(".".join(parts[:depth])))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def widowx_envs_lab(monkeypatch: pytest.MonkeyPatch, **wanted: Any) -> Lab:
    time = VirtualTime()
    service = fake_widowx_envs.Service(time, **wanted)
    install(monkeypatch, fake_widowx_envs.module(service))
    link = WidowXEnvsLink("127.0.0.1", 5556, clock=time, sleep=time.sleep)
    driver = RealWidowX(link, tasks=AUTOEVAL_TASKS, clock=time, sleep=time.sleep)
    return Lab("widowx_envs", driver, service)


def manipulator_gym_lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    time = VirtualTime()
    interface = fake_manipulator_gym.Interface(time)
    install(monkeypatch, fake_manipulator_gym.module(interface))
    link = ManipulatorGymLink("127.0.0.1", 5556, observe_timeout_s=PATIENCE_S)
    driver = RealWidowX(link, tasks=AUTOEVAL_TASKS, clock=time, sleep=time.sleep)
    return Lab("manipulator_gym", driver, interface)


LABS = {"widowx_envs": widowx_envs_lab, "manipulator_gym": manipulator_gym_lab}
