"""What AutoEval's public cells can be asked to do: the names, sentences, questions and boxes they use.

Only the table lives here; who submits a job or judges an answer is elsewhere. The strings are compared letter
by letter by AutoEval and by the gateway, so they are part of the interface.

Source: Zhou et al. 2025 (AutoEval, arXiv:2503.24278) and the configuration of its public cells, read at
commit 3ea3ff4 of March 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from robot_bridge.autoeval.errors import UnknownAutoEvalTask

Corner = tuple[float, float, float]

Rotation: TypeAlias = Literal["raw", "bridge_compensated"]  # see `gateway_job`

REPO: Final = "zhouzypaul/auto_eval"  # the dataset of its recordings
ENDPOINT: Final = "https://huggingface.co"  # and the hub that has it
DRAWER: Final = "widowx_drawer"
SINK: Final = "widowx_sink"
EPISODES_MAX: Final = 50  # per job, what the public page allows
EEF_CLIP: Final = 0.02  # metres per step and axis that the cell executes at most

DRAWER_QUESTION: Final = "is the drawer open? answer yes or no"
SINK_QUESTION: Final = "is the eggplant in the sink or in the basket? answer sink or basket or invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoEvalTask:
    """One task of one public cell.

    `task_id` is the name in our own tables, `robot` and `task` are the keys of AutoEval's job API and
    `robot_index` the cell's number in its live view. The box is where the gripper may be, metres in the
    robot's base frame. `question` is what the classifier is asked about the last picture; `success_answer`
    and `reset_answer` are the exact words that mean "done" and "ready for the next episode".
    """

    task_id: str
    robot: str
    robot_index: int
    task: str
    instruction: str
    question: str
    success_answer: str
    reset_answer: str
    max_steps: int
    box_low: Corner
    box_high: Corner


def _drawer(task: str, instruction: str, *, success: str, reset: str) -> AutoEvalTask:
    return AutoEvalTask(
        task_id=task,
        robot=DRAWER,
        robot_index=0,
        task=task,
        instruction=instruction,
        question=DRAWER_QUESTION,
        success_answer=success,
        reset_answer=reset,
        max_steps=70,
        box_low=(0.1260, -0.1645, 0.0216),
        box_high=(0.3636, 0.0770, 0.1637),
    )


def _sink(task: str, instruction: str, *, success: str, reset: str) -> AutoEvalTask:
    return AutoEvalTask(
        task_id=task,
        robot=SINK,
        robot_index=1,
        task=task,
        instruction=instruction,
        question=SINK_QUESTION,
        success_answer=success,
        reset_answer=reset,
        max_steps=100,
        box_low=(0.1998, -0.0985, 0.0871),
        box_high=(0.3647, 0.1950, 0.2340),
    )


TASKS: Final[tuple[AutoEvalTask, ...]] = (
    _drawer("open_drawer", "open the drawer", success="yes", reset="no"),
    _drawer("close_drawer", "close the drawer", success="no", reset="yes"),
    _sink("put_eggplant_blue_sink", "put the eggplant in the blue sink", success="sink", reset="basket"),
    _sink(
        "put_eggplant_yellow_basket",
        "put the eggplant in the yellow basket",
        success="basket",
        reset="sink",
    ),
)
ROBOTS: Final = (DRAWER, SINK)


def task_of(task_id: str) -> AutoEvalTask:
    """The AutoEval task behind one of our task ids.

    Raises:
        UnknownAutoEvalTask: AutoEval has no such task.
    """
    for task in TASKS:
        if task.task_id == task_id:
            return task
    known = ", ".join(task.task_id for task in TASKS)
    raise UnknownAutoEvalTask(task_id=task_id, known=known)
