"""AutoEval's tasks, letter by letter: the gateway and the scheduler compare these strings exactly."""

from __future__ import annotations

import pytest

from robot_bridge.autoeval.errors import UnknownAutoEvalTask
from robot_bridge.autoeval.tasks import EEF_CLIP, EPISODES_MAX, ROBOTS, TASKS, AutoEvalTask, task_of
from robot_bridge.drivers.tasks import TASKS as SIMULATED

EVERY_TASK = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.task_id)


@pytest.mark.parametrize(
    ("task_id", "robot", "instruction", "success", "reset", "max_steps"),
    [
        ("open_drawer", "widowx_drawer", "open the drawer", "yes", "no", 70),
        ("close_drawer", "widowx_drawer", "close the drawer", "no", "yes", 70),
        ("put_eggplant_blue_sink", "widowx_sink", "put the eggplant in the blue sink", "sink", "basket", 100),
        (
            "put_eggplant_yellow_basket",
            "widowx_sink",
            "put the eggplant in the yellow basket",
            "basket",
            "sink",
            100,
        ),
    ],
)
def test_a_task_says_what_autoeval_says(
    task_id: str, robot: str, instruction: str, success: str, reset: str, max_steps: int
) -> None:
    task = task_of(task_id)
    assert (task.robot, task.task, task.instruction) == (robot, task_id, instruction)
    assert (task.success_answer, task.reset_answer, task.max_steps) == (success, reset, max_steps)


def test_the_four_tasks_are_those_of_the_simulated_cell() -> None:
    assert {task.task_id for task in TASKS} == set(SIMULATED)


@EVERY_TASK
def test_the_simulated_cell_uses_the_same_sentence(task: AutoEvalTask) -> None:
    assert SIMULATED[task.task_id].instruction == task.instruction


@EVERY_TASK
def test_a_question_names_its_answers(task: AutoEvalTask) -> None:
    words = task.question.replace("?", " ").split()
    assert task.success_answer in words
    assert task.reset_answer in words
    assert task.success_answer != task.reset_answer


@EVERY_TASK
def test_a_box_has_an_inside_that_one_step_does_not_cross(task: AutoEvalTask) -> None:
    for low, high in zip(task.box_low, task.box_high, strict=True):
        assert high - low > 2 * EEF_CLIP


def test_tasks_of_one_cell_undo_each_other_and_share_its_box() -> None:
    for robot in ROBOTS:
        first, second = (task for task in TASKS if task.robot == robot)
        assert (first.success_answer, first.reset_answer) == (second.reset_answer, second.success_answer)
        assert (first.box_low, first.box_high) == (second.box_low, second.box_high)
        assert first.robot_index == second.robot_index == ROBOTS.index(robot)


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        UnknownAutoEvalTask, match=r"no task 'fold_cloth'; its tasks are open_drawer, close_d"
    ):
        task_of("fold_cloth")


def test_a_job_holds_what_the_public_page_allows() -> None:
    assert EPISODES_MAX == 50
