from __future__ import annotations

import numpy as np
import pytest

from robot_bridge.drivers import fixtures, tasks
from robot_bridge.drivers.cell import cell_variant, nominal_cell
from robot_bridge.drivers.tasks import TASKS, accomplished, place, task_of
from robot_bridge.errors import UnknownTask

IN_SINK = [0.305, -0.105, 0.023]
IN_BASKET = [0.305, 0.085, 0.023]
TRAY_TASKS = ["put_eggplant_blue_sink", "put_eggplant_yellow_basket"]


def placements(task_id, *, cell_seed=0, count=200):
    variant = cell_variant(cell_seed)
    return [
        place(TASKS[task_id], variant=variant, rng=np.random.default_rng([seed, cell_seed]))
        for seed in range(count)
    ]


def test_the_instructions_are_those_of_autoeval_to_the_letter():
    assert {task_id: task.instruction for task_id, task in TASKS.items()} == {
        "open_drawer": "open the drawer",
        "close_drawer": "close the drawer",
        "put_eggplant_blue_sink": "put the eggplant in the blue sink",
        "put_eggplant_yellow_basket": "put the eggplant in the yellow basket",
    }


def test_an_unknown_task_is_refused_with_the_tasks_there_are():
    with pytest.raises(UnknownTask) as refusal:
        task_of("fold_cloth")
    assert "fold_cloth" in str(refusal.value)
    assert all(task_id in str(refusal.value) for task_id in TASKS)


@pytest.mark.parametrize(
    ("task_id", "slide", "done"),
    [
        ("open_drawer", 0.0, False),
        ("open_drawer", 0.0999, False),
        ("open_drawer", 0.10, True),
        ("open_drawer", 0.14, True),
        ("close_drawer", 0.0, True),
        ("close_drawer", 0.04, True),
        ("close_drawer", 0.0401, False),
        ("close_drawer", 0.12, False),
    ],
)
def test_a_drawer_is_judged_by_how_far_it_slid(a_state, task_id, slide, done):
    assert accomplished(a_state(task_id=task_id, drawer=slide)) is done


@pytest.mark.parametrize(
    ("task_id", "eggplant", "done"),
    [
        ("put_eggplant_blue_sink", IN_SINK, True),
        ("put_eggplant_blue_sink", IN_BASKET, False),
        ("put_eggplant_yellow_basket", IN_BASKET, True),
        ("put_eggplant_yellow_basket", IN_SINK, False),
        ("put_eggplant_blue_sink", [0.305, -0.010, 0.023], False),  # on the table between them
        ("put_eggplant_yellow_basket", [0.305, 0.085, 0.10], False),  # above it
        ("put_eggplant_yellow_basket", [0.305, 0.085, 0.047], False),  # leaning on the wall
        ("put_eggplant_yellow_basket", [0.305, 0.085, -0.10], False),  # fell through the world
        ("put_eggplant_blue_sink", [0.305 + 0.084, -0.105, 0.023], True),
        ("put_eggplant_blue_sink", [0.305 + 0.086, -0.105, 0.023], False),
        ("put_eggplant_blue_sink", [0.305, -0.105 - 0.076, 0.023], False),
        ("put_eggplant_yellow_basket", [0.305, 0.085 + 0.063, 0.023], False),
    ],
)
def test_an_eggplant_counts_only_inside_its_own_tray(a_state, task_id, eggplant, done):
    assert accomplished(a_state(task_id=task_id, eggplant=np.array(eggplant))) is done


@pytest.mark.parametrize("task_id", TRAY_TASKS)
@pytest.mark.parametrize(
    ("why_not", "value"), [("fingers_touching", 1), ("fingers_touching", 2), ("eggplant_speed", 0.06)]
)
def test_an_eggplant_held_or_rolling_is_not_yet_put(a_state, task_id, why_not, value):
    lying = np.array(IN_SINK if task_id.endswith("sink") else IN_BASKET)
    assert accomplished(a_state(task_id=task_id, eggplant=lying))
    assert not accomplished(a_state(task_id=task_id, eggplant=lying, **{why_not: value}))


def test_a_state_of_no_task_cannot_be_judged(a_state):
    with pytest.raises(UnknownTask):
        accomplished(a_state(task_id="juggle"))


def test_the_same_draw_gives_the_same_start(task_id):
    one, other = (
        place(TASKS[task_id], variant=nominal_cell(), rng=np.random.default_rng(5)) for _ in range(2)
    )
    assert (one.home == other.home).all()
    assert (one.eggplant == other.eggplant).all()
    assert (one.drawer, one.eggplant_yaw) == (other.drawer, other.eggplant_yaw)


def test_the_gripper_starts_inside_the_box_it_may_move_in(task_id):
    task = TASKS[task_id]
    homes = np.array([placement.home for placement in placements(task_id)])
    assert (homes >= task.box_low).all()
    assert (homes <= task.box_high).all()
    assert (np.ptp(homes, axis=0) > 0.015).all(), "starts differ"


def test_no_drawer_starts_where_its_task_is_done():
    opened = [placement.drawer for placement in placements("open_drawer")]
    closed = [placement.drawer for placement in placements("close_drawer")]
    assert 0.0 <= min(opened) < max(opened) <= 0.02
    assert max(opened) < tasks.DRAWER_OPEN
    assert 0.11 <= min(closed) < max(closed) <= 0.13
    assert max(closed) <= fixtures.DRAWER_TRAVEL


@pytest.mark.parametrize("cell_seed", [0, 3])
@pytest.mark.parametrize(
    ("task_id", "tray", "half"),
    [
        ("put_eggplant_blue_sink", tasks.basket_centre, fixtures.BASKET_HALF),
        ("put_eggplant_yellow_basket", tasks.sink_centre, fixtures.SINK_HALF),
    ],
)
def test_an_eggplant_starts_lying_in_the_other_tray(task_id, tray, half, cell_seed):
    centre = tray(cell_variant(cell_seed))
    for placement in placements(task_id, cell_seed=cell_seed):
        along = np.array([np.cos(placement.eggplant_yaw), np.sin(placement.eggplant_yaw)])
        reach = fixtures.EGGPLANT_HALF * np.abs(along) + fixtures.EGGPLANT_RADIUS  # half extent along x, y
        assert (np.abs(placement.eggplant - centre) + reach <= half).all()
        assert abs(placement.eggplant_yaw) <= np.deg2rad(25.0)
