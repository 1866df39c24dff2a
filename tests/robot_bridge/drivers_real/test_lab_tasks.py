"""Tasks of real cells: AutoEval's numbers, and what a lab may write into its own file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from robot_bridge.conventions import DEFAULT_ROTATION, Pose
from robot_bridge.drivers import kinematics
from robot_bridge.drivers.lab_tasks import AUTOEVAL_TASKS, TasksFileInvalid, read_tasks
from robot_bridge.drivers.real_arm import NEAR_WORK

GOOD: dict[str, Any] = {
    "task_id": "stack",
    "instruction": "stack the cups",
    "box_low": [0.2, -0.1, 0.05],
    "box_high": [0.4, 0.1, 0.2],
    "home": [0.26, 0.0, 0.15],
}


def test_autoevals_sentences_are_kept_to_the_letter():
    assert {task.task_id: task.instruction for task in AUTOEVAL_TASKS} == {
        "open_drawer": "open the drawer",
        "close_drawer": "close the drawer",
        "put_eggplant_blue_sink": "put the eggplant in the blue sink",
        "put_eggplant_yellow_basket": "put the eggplant in the yellow basket",
        "fold_cloth": "fold the cloth from top right to bottom left",
    }


def test_autoevals_boxes_are_those_of_its_cells():
    boxes = {task.task_id: (task.box_low, task.box_high) for task in AUTOEVAL_TASKS}
    assert boxes["open_drawer"] == ((0.1260, -0.1645, 0.0216), (0.3636, 0.0770, 0.1637))
    assert boxes["put_eggplant_blue_sink"] == ((0.1998, -0.0985, 0.0871), (0.3647, 0.1950, 0.2340))


@pytest.mark.parametrize("task", AUTOEVAL_TASKS, ids=lambda task: task.task_id)
def test_every_home_is_within_reach_of_the_arm(task):
    solution = kinematics.inverse(Pose(np.array(task.home), DEFAULT_ROTATION), np.array(NEAR_WORK))
    assert solution.ok
    assert not kinematics.WIDOWX.collides(solution.joints)


def test_a_labs_file_is_read_as_it_stands(tmp_path):
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps({"tasks": [GOOD, {**GOOD, "task_id": "unstack"}]}))
    first, second = read_tasks(path)
    assert (first.task_id, second.task_id) == ("stack", "unstack")
    assert first.described("trust").box_low == (0.2, -0.1, 0.05)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"tasks": []}, "at least 1"),
        ({"tasks": [GOOD, GOOD]}, "twice"),
        ({"tasks": [{**GOOD, "home": [0.26, 0.0, 0.5]}]}, "home must lie"),
        ({"tasks": [{**GOOD, "box_high": [0.2, 0.1, 0.2]}]}, "home must lie"),
        ({"tasks": [{**GOOD, "box_high": [4.0, 0.1, 0.2]}]}, "0.65"),
        ({"tasks": [{**GOOD, "box_low": [0.2, -0.1]}]}, "box_low"),
        ({"tasks": [{**GOOD, "box_low": [0.2, -0.1, float("nan")]}]}, "finite"),
        ({"tasks": [{**GOOD, "speed": 3}]}, "speed"),
        ({"tasks": [{**GOOD, "instruction": ""}]}, "instruction"),
        ([GOOD], "dictionary"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path, tree, words):
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(TasksFileInvalid, match=words):
        read_tasks(path)


@pytest.mark.parametrize("text", ["", "{", "\x00"])
def test_a_file_that_is_no_json_is_refused(tmp_path, text):
    path = tmp_path / "tasks.json"
    path.write_text(text)
    with pytest.raises(TasksFileInvalid, match=r"tasks\.json"):
        read_tasks(path)
