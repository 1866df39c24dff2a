"""The emulator's strings are written down on their own, so that a slip in the adapter's table is seen."""

from __future__ import annotations

import pytest

from robot_bridge.autoeval import tasks as adapter
from robot_bridge.autoeval.emulator.robots import ROBOTS
from robot_bridge.drivers.tasks import TASKS


def test_every_task_of_the_adapter_is_one_of_a_public_robot():
    for task in adapter.TASKS:
        robot = ROBOTS[task.robot]
        ours = robot.task(task.task)
        assert robot.index == task.robot_index
        assert ours is not None
        assert (ours.instruction, ours.question) == (task.instruction, task.question)
        assert ours.answers == (task.success_answer, task.reset_answer)


def test_there_are_four_public_tasks_on_two_robots():
    assert {key: [task.task for task in robot.tasks] for key, robot in ROBOTS.items()} == {
        "widowx_drawer": ["open_drawer", "close_drawer"],
        "widowx_sink": ["put_eggplant_blue_sink", "put_eggplant_yellow_basket"],
    }


@pytest.mark.parametrize("robot", sorted(ROBOTS))
def test_each_task_is_the_way_back_of_the_other(robot):
    one, other = ROBOTS[robot].tasks
    assert (one.instruction, one.reset_instruction) == (other.reset_instruction, other.instruction)
    assert one.answers == other.answers[::-1]
    assert one.question == other.question


def test_the_simulated_cell_can_do_them_all():
    for robot in ROBOTS.values():
        for task in robot.tasks:
            assert TASKS[task.task].instruction == task.instruction


def test_a_task_that_a_robot_does_not_have_is_none():
    assert ROBOTS["widowx_drawer"].task("put_eggplant_blue_sink") is None
