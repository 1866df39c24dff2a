"""Scripted experts: one action from the ground truth of this instant, for each of the four tasks.

They decide from the state alone, never from a clock or a phase they remember, so they can take over
anywhere, also after a policy's mistake. They never turn the gripper. Deltas are whole multiples of `GRID`, so
that coarse action bins reproduce them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from robot_bridge.drivers import fixtures
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.drivers.tasks import CellState, accomplished

F64 = NDArray[np.float64]

STEP: Final = 0.028  # metres per action and axis, at most
PULL_STEP: Final = 0.020  # while the drawer moves
GRID: Final = 0.004  # metres: 21 values over [-0.04, 0.04]
LIMIT: Final = 0.04  # metres per action and axis, noise included

OPEN: Final = 1.0
SHUT: Final = 0.0

ABOVE_HANDLE: Final = 0.115  # metres, height at which the fingertips clear the drawer's front
PULLED_OUT: Final = 0.120  # metres of slide at which the expert lets go; success is at 0.10
PUSHED_IN: Final = 0.012
AT_HEIGHT: Final = 0.012  # metres of height that still meet the bar
HANDLE_REACH: Final = 0.040  # metres from the middle of the bar at which the fingers still meet it
BESIDE_HANDLE: Final = 0.050  # metres in front of the bar where a push starts
CARRY_HEIGHT: Final = 0.100  # clears both trays with an eggplant in the hand
GRASP_HEIGHT: Final = 0.024
RELEASE_HEIGHT: Final = 0.048
RETREAT_HEIGHT: Final = 0.140
GRASP_TOLERANCE: Final[F64] = np.array(
    [0.010, 0.006]
)  # metres; across the fingers an eggplant has 6 mm to spare

AIM_ERROR: Final = 0.014  # metres per unit of noise: an error in where things are, kept for a whole episode
SHAKE: Final = 0.005  # metres per unit of noise: a fresh error in every step
GRIP_SLIP: Final = 0.04  # chance per unit of noise that the gripper does the opposite for one step
NOISE_GAIN: Final = {"drawer": 2.0, "trays": 1.0}  # a drawer forgives more than a grasp


def scripted_action(
    driver: MujocoWidowX, rng: np.random.Generator, *, noise: float = 0.0
) -> NDArray[np.float32]:
    """The expert's next bridge_v2 action [7] for the driver's current task.

    Args:
        driver: after `reset`; only its ground truth is read.
        rng: drives the noise; not used at noise 0.
        noise: 0 is the expert; 0.5 succeeds about four times in five, 1 about every second time.
    """
    state = driver.ground_truth()
    level = noise * NOISE_GAIN[driver.task.scene]
    aim = np.random.default_rng([state.seed, 0xA13]).normal(0.0, 1.0, 3) * AIM_ERROR * level
    goal, opening, step = _DECISIONS[state.task_id](state, aim)
    delta = np.clip(goal - state.target, -step, step)
    if noise > 0.0:
        delta = delta + rng.normal(0.0, SHAKE * level, 3)
        opening = 1.0 - opening if rng.random() < GRIP_SLIP * level else opening
    delta = np.clip(np.round(delta / GRID) * GRID, -LIMIT, LIMIT)
    return np.array([*delta, 0.0, 0.0, 0.0, opening], dtype=np.float32)


Decision = tuple[F64, float, float]  # where the target should go [3], gripper opening, metres per step


def _open_drawer(state: CellState, aim: F64) -> Decision:
    """Straddle the bar from above, shut, pull."""
    handle = state.handle + aim
    away = state.target - handle
    if state.drawer >= PULLED_OUT:
        return _let_go(state, clear_of=ABOVE_HANDLE)
    if abs(away[2]) < AT_HEIGHT and abs(away[0]) < HANDLE_REACH and -0.050 < away[1] < 0.016:
        if state.asked_opening > 0.5:
            return state.target, SHUT, STEP
        return state.target + np.array([0.0, -PULL_STEP, 0.0]), SHUT, PULL_STEP
    if _near(state.target[:2], handle[:2], within=0.012):
        return handle, OPEN, STEP
    return _over_the_top(state, handle), OPEN, STEP


def _close_drawer(state: CellState, aim: F64) -> Decision:
    """Come down in front of the bar with shut fingers, push."""
    handle = state.handle + aim
    away = state.target - handle
    start = handle + np.array([0.0, -BESIDE_HANDLE, 0.0])
    if state.drawer <= PUSHED_IN:
        return np.array([state.target[0], start[1], RETREAT_HEIGHT]), SHUT, STEP
    behind_bar = state.gripper[1] > state.handle[1]
    if abs(away[2]) < AT_HEIGHT and abs(away[0]) < HANDLE_REACH and not behind_bar:
        return np.array([handle[0], state.target[1] + PULL_STEP, handle[2]]), SHUT, PULL_STEP
    if away[1] < -0.020:
        return start, SHUT, STEP
    return _over_the_top(state, start), SHUT, STEP


def _over_the_top(state: CellState, place: F64) -> F64:
    """Towards a point above a place, first up and then across, so that nothing is caught on the way."""
    across = place[:2] if state.target[2] > ABOVE_HANDLE - AT_HEIGHT else state.target[:2]
    return np.array([*across, max(ABOVE_HANDLE, state.target[2])])


def _put_in_sink(state: CellState, aim: F64) -> Decision:
    return _put(state, aim, tray=state.sink)


def _put_in_basket(state: CellState, aim: F64) -> Decision:
    return _put(state, aim, tray=state.basket)


def _put(state: CellState, aim: F64, *, tray: F64) -> Decision:
    if accomplished(state):
        return _let_go(state, clear_of=RETREAT_HEIGHT)
    if _holding(state):
        return _carry(state, tray + aim[:2])
    if state.fingers_touching and state.asked_opening > 0.5 and _over(state.eggplant, tray):
        return _let_go(state, clear_of=RETREAT_HEIGHT)
    return _fetch(state, state.eggplant + aim)


def _fetch(state: CellState, thing: F64) -> Decision:
    grasp = np.array([thing[0], thing[1], GRASP_HEIGHT])
    aligned = _near(state.target[:2], thing[:2], within=GRASP_TOLERANCE)
    if not aligned and state.target[2] < CARRY_HEIGHT - 0.03:
        return np.array([*state.target[:2], CARRY_HEIGHT]), OPEN, STEP
    if not aligned:
        return np.array([grasp[0], grasp[1], CARRY_HEIGHT]), OPEN, STEP
    if state.target[2] > GRASP_HEIGHT + GRID:
        return grasp, OPEN, STEP
    return state.target, SHUT, STEP


def _carry(state: CellState, above: F64) -> Decision:
    if not _near(state.target[:2], above, within=0.010):
        height = max(CARRY_HEIGHT, state.target[2])
        if state.target[2] < CARRY_HEIGHT - 0.024:
            return np.array([*state.target[:2], height]), SHUT, STEP
        return np.array([*above, height]), SHUT, STEP
    if state.target[2] > RELEASE_HEIGHT + GRID:
        return np.array([*above, RELEASE_HEIGHT]), SHUT, STEP
    return state.target, OPEN, STEP


def _let_go(state: CellState, *, clear_of: float) -> Decision:
    """Open first, then straight up and away, then stay."""
    if state.asked_opening < 0.5:
        return state.target, OPEN, STEP
    return np.array([*state.target[:2], max(clear_of, state.target[2])]), OPEN, STEP


def _holding(state: CellState) -> bool:
    return state.fingers_touching == 2 and state.asked_opening < 0.5


def _over(thing: F64, tray: F64) -> bool:
    half = np.minimum(fixtures.SINK_HALF, fixtures.BASKET_HALF)
    return bool((np.abs(thing[:2] - tray) < half).all())


def _near(a: F64, b: F64, *, within: float | F64) -> bool:
    return bool((np.abs(a - b) <= within).all())


_DECISIONS: Final = {
    "open_drawer": _open_drawer,
    "close_drawer": _close_drawer,
    "put_eggplant_blue_sink": _put_in_sink,
    "put_eggplant_yellow_basket": _put_in_basket,
}
