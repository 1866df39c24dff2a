"""Builders for the driver tests: a quick cell, a ground truth to vary, and a way to play an episode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robot_bridge.conventions import Pose, compose_target
from robot_bridge.drivers.cell import nominal_cell
from robot_bridge.drivers.experts import scripted_action
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.drivers.tasks import TASKS, CellState

STEPS = 40


@dataclass
class Played:
    """What happened in one episode, one entry per step."""

    actions: list[NDArray[np.float32]] = field(default_factory=list)
    targets: list[Pose] = field(default_factory=list)
    states: list[CellState] = field(default_factory=list)
    success: list[bool] = field(default_factory=list)
    ik_ok: list[bool] = field(default_factory=list)


Chooser = Callable[[MujocoWidowX, int], NDArray[np.float32]]


def play(
    driver: MujocoWidowX, task_id: str, *, seed: int, steps: int = STEPS, choose: Chooser | None = None
) -> Played:
    """Reset, then act as the station does: compose, clip to the task's box, step."""
    driver.reset(task_id, seed=seed)
    return go_on(driver, steps=steps, choose=choose)


def go_on(driver: MujocoWidowX, *, steps: int, choose: Chooser | None = None) -> Played:
    played, rng = Played(), np.random.default_rng(0)
    low, high = np.array(driver.task.box_low), np.array(driver.task.box_high)
    for index in range(steps):
        action = choose(driver, index) if choose else scripted_action(driver, rng)
        asked = compose_target(driver.target, action)
        outcome = driver.step(Pose(np.clip(asked.position, low, high), asked.rotation), float(action[6]))
        played.actions.append(action)
        played.targets.append(asked)
        played.states.append(driver.ground_truth())
        played.success.append(driver.success())
        played.ik_ok.append(outcome.ik_ok)
    return played


@pytest.fixture(scope="module")
def driver() -> Iterator[MujocoWidowX]:
    """The nominal cell with tiny ray-cast pictures: quick, and needs no graphics library."""
    cell = MujocoWidowX(cell=nominal_cell(), renderer="raycast", image_size=8)
    yield cell
    cell.close()


@pytest.fixture(params=sorted(TASKS))
def task_id(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def player() -> Callable[..., Played]:
    return play


@pytest.fixture
def continuer() -> Callable[..., Played]:
    return go_on


@pytest.fixture
def a_state() -> Callable[..., CellState]:
    """A calm ground truth in which no task is done; name what should differ."""
    calm = CellState(
        task_id="open_drawer",
        gripper=np.array([0.30, 0.0, 0.15]),
        target=np.array([0.30, 0.0, 0.15]),
        asked_opening=1.0,
        finger=0.037,
        finger_speed=0.0,
        drawer=0.07,
        drawer_speed=0.0,
        handle=np.array([0.325, 0.0, 0.065]),
        eggplant=np.array([0.305, -0.010, 0.023]),
        eggplant_speed=0.0,
        fingers_touching=0,
        sink=np.array([0.305, -0.105]),
        basket=np.array([0.305, 0.085]),
        seed=0,
    )

    def build(**overrides: Any) -> CellState:
        return replace(calm, **overrides)

    return build
