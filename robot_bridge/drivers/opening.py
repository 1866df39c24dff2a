"""Which driver a station runs, by name: the one place that knows them all and loads only the one chosen.

A real arm needs no simulator and a simulated cell no lab package, so nothing of either is imported before.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from robot_bridge.drivers.driver import RobotDriver
from robot_bridge.drivers.lab_tasks import AUTOEVAL_TASKS, LabTask, read_tasks
from robot_bridge.errors import DriverError

DriverKind: TypeAlias = Literal["sim", "widowx-envs", "manipulator-gym"]

DRIVER_KINDS: Final[tuple[DriverKind, ...]] = get_args(DriverKind)
PORT_MAX: Final = 65535


class DriverUnavailable(DriverError):
    """A driver that cannot be opened as it was asked for."""

    code = "driver_unavailable"
    sentence = "driver {kind!r} cannot be opened: {thing} must be {expected}, found {found!r}."


def open_driver(
    kind: DriverKind,
    *,
    cell_seed: int = 0,
    address: str | None = None,
    tasks: Path | None = None,
    scene: Literal["trust", "ask"] = "trust",
) -> RobotDriver:
    """Open a driver. A real arm does not move by it.

    Args:
        kind: "sim" for a simulated cell, otherwise the package that the lab speaks to its arm through.
        cell_seed: which simulated cell.
        address: "host:port" of the package's server; None takes the package's usual one on this machine.
        tasks: the lab's own file of tasks, see `lab_tasks`; None takes AutoEval's.
        scene: "ask" has somebody arrange the objects before every reset of a real cell.

    Raises:
        DriverUnavailable: no such kind, or an address that is none.
        TasksFileInvalid: the file of tasks cannot be used.
        LabPackageMissing, DriverDisconnected: the package or its server is not there.
    """
    if kind == "sim":
        return _simulated(cell_seed)
    if kind not in DRIVER_KINDS:
        raise DriverUnavailable(kind=kind, thing="kind", expected=f"one of {DRIVER_KINDS}", found=kind)
    module, link = _LINKS[kind]
    package = importlib.import_module(module)
    host, port = host_and_port(package.DEFAULT_ADDRESS if address is None else address, kind=kind)
    known: tuple[LabTask, ...] = AUTOEVAL_TASKS if tasks is None else read_tasks(tasks)
    arm = importlib.import_module("robot_bridge.drivers.real_arm")
    driver: RobotDriver = arm.RealWidowX(getattr(package, link)(host, port), tasks=known, scene=scene)
    return driver


def host_and_port(address: str, *, kind: str) -> tuple[str, int]:
    """The two parts of "host:port".

    Raises:
        DriverUnavailable: it is not of that form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= PORT_MAX:
        raise DriverUnavailable(kind=kind, thing="address", expected="host:port", found=address)
    return host, int(port)


def _simulated(cell_seed: int) -> RobotDriver:
    cell: Any = importlib.import_module("robot_bridge.drivers.cell")
    simulator: Any = importlib.import_module("robot_bridge.drivers.mujoco_widowx")
    driver: RobotDriver = simulator.MujocoWidowX(cell=cell.cell_variant(cell_seed), renderer="auto")
    return driver


_LINKS: Final[dict[str, tuple[str, str]]] = {
    "widowx-envs": ("robot_bridge.drivers.widowx_envs", "WidowXEnvsLink"),
    "manipulator-gym": ("robot_bridge.drivers.manipulator_gym", "ManipulatorGymLink"),
}
