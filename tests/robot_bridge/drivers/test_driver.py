from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from robot_bridge.drivers import driver as contract
from robot_bridge.drivers.driver import ArmModel, CameraDescription, RobotDriver, Sample
from robot_bridge.drivers.kinematics import WidowXArm
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX

MEMBERS = [name for name in vars(RobotDriver) if not name.startswith("_")]


def test_the_contract_is_what_every_lab_has_to_write_and_no_more():
    moving = ["reset", "step", "hold", "park"]
    knowing = ["description", "target", "arm", "motors", "success"]
    caring = ["reboot_motors", "sleep", "wake", "close"]
    assert sorted(MEMBERS) == sorted(moving + knowing + caring)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_simulated_cell_offers_each_call_exactly_as_the_contract_says(name):
    asked, offered = getattr(RobotDriver, name), getattr(MujocoWidowX, name)
    assert isinstance(offered, property) is isinstance(asked, property)
    if not isinstance(asked, property):
        assert inspect.signature(offered).parameters == inspect.signature(asked).parameters


@pytest.mark.parametrize("name", [name for name in vars(ArmModel) if not name.startswith("_")])
def test_the_widowx_offers_each_question_exactly_as_the_arm_model_asks_it(name):
    asked, offered = getattr(ArmModel, name), getattr(WidowXArm, name)
    assert isinstance(offered, property) is isinstance(asked, property)
    if not isinstance(asked, property):
        assert list(inspect.signature(offered).parameters) == list(inspect.signature(asked).parameters)


def test_the_contract_needs_no_simulator():
    code = "import sys, robot_bridge.drivers.driver as d; sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_folder_imports_no_driver():
    tree = ast.parse(Path(contract.__file__).with_name("__init__.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def test_samples_cannot_be_changed_after_they_were_taken():
    sample = Sample(
        image=np.zeros((8, 8, 3), np.uint8),
        proprio=np.zeros(7, np.float32),
        qpos=np.zeros(8, np.float32),
        effort_mA=np.zeros(7, np.float32),
        captured_at=0.0,
        seq=1,
    )
    with pytest.raises(FrozenInstanceError):
        sample.captured_at = 1.0


def test_descriptions_compare_by_what_they_say():
    one, other, third = (
        CameraDescription(name=name, width=256, height=256, fps=5.0, renderer="raycast")
        for name in ("primary", "primary", "wrist")
    )
    assert one == other
    assert one != third
