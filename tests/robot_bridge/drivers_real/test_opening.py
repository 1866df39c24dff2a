"""Opening a driver by name: only the chosen one is loaded, what is wrong is said before anything moves."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from robot_bridge.drivers.lab_package import LabPackageMissing
from robot_bridge.drivers.lab_tasks import TasksFileInvalid
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.drivers.opening import DRIVER_KINDS, DriverUnavailable, open_driver
from robot_bridge.errors import NeedsHuman
from tests.robot_bridge.drivers_real import fake_manipulator_gym, fake_widowx_envs
from tests.robot_bridge.drivers_real.lab_arm import VirtualTime
from tests.robot_bridge.drivers_real.labs import install

TASK = {
    "task_id": "stack",
    "instruction": "stack the cups",
    "box_low": [0.2, -0.1, 0.05],
    "box_high": [0.4, 0.1, 0.2],
    "home": [0.26, 0.0, 0.15],
}


@pytest.fixture
def both(monkeypatch):
    """Both packages installed; gives their other sides."""
    sides = {
        "widowx-envs": fake_widowx_envs.Service(VirtualTime()),
        "manipulator-gym": fake_manipulator_gym.Interface(VirtualTime()),
    }
    install(monkeypatch, fake_widowx_envs.module(sides["widowx-envs"]))
    install(monkeypatch, fake_manipulator_gym.module(sides["manipulator-gym"]))
    return sides


def test_the_simulated_cell_is_the_one_of_its_seed():
    driver = open_driver("sim", cell_seed=3)
    assert isinstance(driver, MujocoWidowX)
    assert driver.cell.seed == 3
    driver.close()


@pytest.mark.parametrize("kind", DRIVER_KINDS[1:])
def test_a_real_arm_is_opened_at_its_address_without_any_motion(both, kind):
    driver = open_driver(kind, address="10.1.2.3:6001")
    assert both[kind].address == ("10.1.2.3", 6001)
    assert both[kind].arm.commands == []
    assert driver.description.tasks[0].task_id == "open_drawer"


@pytest.mark.parametrize("kind", DRIVER_KINDS[1:])
def test_without_an_address_the_packages_usual_one_on_this_machine_is_taken(both, kind):
    open_driver(kind)
    assert both[kind].address == ("127.0.0.1", 5556)


def test_a_lab_brings_its_own_tasks_and_its_own_hands(both, tmp_path):
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps({"tasks": [TASK]}))
    driver = open_driver("widowx-envs", tasks=path, scene="ask")
    (task,) = driver.description.tasks
    assert (task.task_id, task.box_high) == ("stack", (0.4, 0.1, 0.2))
    with pytest.raises(NeedsHuman, match="stack the cups"):
        driver.reset("stack", seed=0)


def test_a_file_of_tasks_that_is_wrong_is_told_before_a_connection_is_used(both, tmp_path):
    with pytest.raises(TasksFileInvalid, match="nowhere"):
        open_driver("widowx-envs", tasks=tmp_path / "nowhere.json")


@pytest.mark.parametrize("address", ["", "lab", ":5556", "lab:", "lab:port", "lab:0", "lab:70000"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(DriverUnavailable, match="host:port"):
        open_driver("manipulator-gym", address=address)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(DriverUnavailable, match="widowx-envs"):
        open_driver("franka")


@pytest.mark.parametrize("kind", DRIVER_KINDS[1:])
def test_a_lab_without_the_package_is_told_so(kind):
    with pytest.raises(LabPackageMissing, match="Install"):
        open_driver(kind)


def test_a_real_arm_loads_no_simulator_and_a_simulated_one_no_lab_package():
    script = """
import sys
from robot_bridge.drivers.opening import open_driver
from robot_bridge.errors import DriverError
assert "mujoco" not in sys.modules
try:
    open_driver("widowx-envs")
except DriverError:
    pass
assert "robot_bridge.drivers.widowx_envs" in sys.modules
assert "mujoco" not in sys.modules
open_driver("sim").close()
assert "mujoco" in sys.modules
assert "robot_bridge.drivers.manipulator_gym" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
