"""AutoEval's four tasks in the simulated cell: where things start, and when a task counts as done.

Predicates read a `CellState`, the ground truth of one instant; they know no simulator and no history. A task
is judged once, at the end of an episode, so an eggplant must also lie still and be let go of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from robot_bridge.drivers import fixtures
from robot_bridge.drivers.cell import CellVariant, Vector
from robot_bridge.drivers.scene import SceneName
from robot_bridge.errors import UnknownTask

F64 = NDArray[np.float64]

DRAWER_OPEN: Final = 0.10  # metres of slide that count as open, AutoEval's simulated twin
DRAWER_CLOSED: Final = 0.04
REST_SPEED: Final = 0.05  # metres per second below which a thing is at rest
RESTING_HEIGHT: Final = 0.045  # metres; an eggplant lying in a tray has its centre at about 0.023

HOME_JITTER: Final = (0.015, 0.015, 0.010)  # metres, uniform
EGGPLANT_YAW: Final = np.deg2rad(25.0)  # the gripper needs no turn to grasp within this


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task: its scene, the box (metres) that targets stay in, and where the gripper starts."""

    task_id: str
    instruction: str
    scene: SceneName
    box_low: tuple[float, float, float]
    box_high: tuple[float, float, float]
    home: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellState:
    """Ground truth of one instant, metres and seconds, robot base frame.

    `drawer` and `handle` belong to the drawer scene, the eggplant and the tray centres to the trays scene;
    what a scene does not have is zero.
    """

    task_id: str
    gripper: F64  # [3] measured
    target: F64  # [3] the pose the arm is asked to hold
    asked_opening: float  # 0 closed .. 1 open
    finger: float  # joint position
    finger_speed: float
    drawer: float
    drawer_speed: float
    handle: F64  # [3] middle of the bar
    eggplant: F64  # [3]
    eggplant_speed: float
    fingers_touching: int  # how many fingers touch the eggplant, 0..2
    sink: F64  # [2]
    basket: F64  # [2]
    seed: int  # of the episode


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one episode starts: gripper point [3], drawer slide, eggplant position [2] and yaw (radians)."""

    home: F64
    drawer: float
    eggplant: F64
    eggplant_yaw: float


def _task(task_id: str, instruction: str, *, scene: SceneName) -> Task:
    low, high, home = _SPACE[scene]
    return Task(task_id=task_id, instruction=instruction, scene=scene, box_low=low, box_high=high, home=home)


# Box corners and home per scene, metres. The drawer's home is that of SIMPLER's start joints; the home at the
# trays is lower than SIMPLER's (0.23), because a gripper out of the picture teaches a world model nothing.
_SPACE: Final[dict[SceneName, tuple[Vector, Vector, Vector]]] = {
    "drawer": ((0.20, -0.16, 0.03), (0.40, 0.10, 0.20), (0.292, -0.006, 0.135)),
    "trays": ((0.20, -0.19, 0.02), (0.40, 0.19, 0.19), (0.265, -0.02, 0.16)),
}

TASKS: Final[dict[str, Task]] = {
    task.task_id: task
    for task in (
        _task("open_drawer", "open the drawer", scene="drawer"),
        _task("close_drawer", "close the drawer", scene="drawer"),
        _task("put_eggplant_blue_sink", "put the eggplant in the blue sink", scene="trays"),
        _task("put_eggplant_yellow_basket", "put the eggplant in the yellow basket", scene="trays"),
    )
}


def task_of(task_id: str) -> Task:
    """The task of an id.

    Raises:
        UnknownTask: there is none.
    """
    if task_id not in TASKS:
        raise UnknownTask(task_id=task_id, known=", ".join(sorted(TASKS)))
    return TASKS[task_id]


def place(task: Task, *, variant: CellVariant, rng: np.random.Generator) -> Placement:
    """Draw the start of an episode; the same generator state gives the same start."""
    home = np.array(task.home) + rng.uniform(-1.0, 1.0, 3) * HOME_JITTER
    drawer = rng.uniform(0.0, 0.02) if task.task_id == "open_drawer" else rng.uniform(0.110, 0.130)
    spread = rng.uniform(-1.0, 1.0, 2)
    in_sink = task.task_id == "put_eggplant_yellow_basket"
    centre = sink_centre(variant) if in_sink else basket_centre(variant)
    room = np.array((0.030, 0.025) if in_sink else (0.022, 0.014))
    return Placement(
        home=home,
        drawer=float(drawer),
        eggplant=centre + spread * room,
        eggplant_yaw=float(rng.uniform(-EGGPLANT_YAW, EGGPLANT_YAW)),
    )


def sink_centre(variant: CellVariant) -> F64:
    """Centre of the blue sink in the table plane, [2]."""
    return np.add(fixtures.SINK_CENTRE, variant.fixture_shift)


def basket_centre(variant: CellVariant) -> F64:
    """Centre of the yellow basket in the table plane, [2]."""
    return np.add(fixtures.BASKET_CENTRE, variant.fixture_shift)


def accomplished(state: CellState) -> bool:
    """Whether the state's task is done at this instant.

    Raises:
        UnknownTask: the state names no task of this cell.
    """
    match task_of(state.task_id).task_id:
        case "open_drawer":
            return state.drawer >= DRAWER_OPEN
        case "close_drawer":
            return state.drawer <= DRAWER_CLOSED
        case "put_eggplant_blue_sink":
            return _lies_in(state, centre=state.sink, half=fixtures.SINK_HALF)
        case _:
            return _lies_in(state, centre=state.basket, half=fixtures.BASKET_HALF)


def _lies_in(state: CellState, *, centre: F64, half: tuple[float, float]) -> bool:
    inside = bool((np.abs(state.eggplant[:2] - centre) <= half).all())
    resting = 0.0 < state.eggplant[2] <= RESTING_HEIGHT and state.eggplant_speed <= REST_SPEED
    return inside and bool(resting) and state.fingers_touching == 0
