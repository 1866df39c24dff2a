"""The tasks of real cells: sentence, box for the target, and where the gripper starts. Data and its file.

The boxes are those that AutoEval's cells at Berkeley use; another lab's table is elsewhere, so it gives its
own in a JSON file:

    {"tasks": [{"task_id": "open_drawer", "instruction": "open the drawer",
                "box_low": [0.13, -0.16, 0.03], "box_high": [0.36, 0.07, 0.16], "home": [0.25, 0.0, 0.13]}]}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from robot_bridge.drivers.driver import SceneReset, TaskDescription
from robot_bridge.errors import DriverError

Scene: TypeAlias = Literal["trust", "ask"]
Point: TypeAlias = tuple[float, float, float]
Reach: TypeAlias = Annotated[float, Field(ge=-0.65, le=0.65, allow_inf_nan=False)]  # metres; the arm's own
Corner: TypeAlias = tuple[Reach, Reach, Reach]

RESETS: Final[dict[Scene, SceneReset]] = {"ask": "human", "trust": "none"}


class TasksFileInvalid(DriverError):
    """A lab's file of tasks that cannot be used."""

    code = "tasks_file_invalid"
    sentence = "tasks file {path} cannot be used: {reason}. Correct it; nothing was opened."


class LabTask(BaseModel):
    """One task: metres in the arm's base frame. `home`: where the gripper starts, straight down."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task_id: str = Field(min_length=1, max_length=100)
    instruction: str = Field(min_length=1, max_length=500)
    box_low: Corner
    box_high: Corner
    home: Corner

    @model_validator(mode="after")
    def _home_is_inside(self) -> LabTask:
        for low, home, high in zip(self.box_low, self.home, self.box_high, strict=True):
            if not low <= home <= high or high - low < SMALLEST_SIDE:
                raise ValueError(
                    f"{self.task_id}: home must lie in a box with sides of {SMALLEST_SIDE} m or more"
                )
        return self

    def described(self, scene: Scene) -> TaskDescription:
        """The task as a driver declares it, where the scene is arranged so; a person says how it went."""
        return TaskDescription(
            task_id=self.task_id,
            instruction=self.instruction,
            box_low=self.box_low,
            box_high=self.box_high,
            reset=RESETS[scene],
            judge="human",
        )


class _TasksFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[LabTask, ...] = Field(min_length=1)


SMALLEST_SIDE: Final = 0.02  # metres; a smaller box is a typing mistake

_DRAWER: Final = {
    "box_low": (0.1260, -0.1645, 0.0216),
    "box_high": (0.3636, 0.0770, 0.1637),
    "home": (0.2583, 0.0, 0.1500),
}
_SINK: Final = {
    "box_low": (0.1998, -0.0985, 0.0871),
    "box_high": (0.3647, 0.1950, 0.2340),
    "home": (0.2583, 0.0, 0.1907),
}
_CLOTH: Final = {
    "box_low": (0.1620, -0.1477, 0.0204),
    "box_high": (0.4013, 0.2674, 0.1787),
    "home": (0.2583, 0.0, 0.1600),
}
# Boxes and sentences of AutoEval's eval_config; homes are its reset pose, brought into the box where it is
# above it.
AUTOEVAL_TASKS: Final[tuple[LabTask, ...]] = (
    LabTask(task_id="open_drawer", instruction="open the drawer", **_DRAWER),
    LabTask(task_id="close_drawer", instruction="close the drawer", **_DRAWER),
    LabTask(task_id="put_eggplant_blue_sink", instruction="put the eggplant in the blue sink", **_SINK),
    LabTask(
        task_id="put_eggplant_yellow_basket", instruction="put the eggplant in the yellow basket", **_SINK
    ),
    LabTask(task_id="fold_cloth", instruction="fold the cloth from top right to bottom left", **_CLOTH),
)


def read_tasks(path: Path) -> tuple[LabTask, ...]:
    """The tasks in a lab's JSON file.

    Raises:
        TasksFileInvalid: it cannot be read, is not JSON, or holds something that is no task; ids come once.
    """
    try:
        tasks = _TasksFile.model_validate(json.loads(path.read_text(encoding="utf-8"))).tasks
    except (OSError, ValueError, ValidationError) as cause:
        raise TasksFileInvalid(path=path, reason=cause) from cause
    ids = [task.task_id for task in tasks]
    if len(set(ids)) != len(ids):
        raise TasksFileInvalid(path=path, reason=f"a task_id comes twice: {ids}")
    return tasks
