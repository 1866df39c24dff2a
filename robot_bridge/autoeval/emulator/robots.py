"""AutoEval's public robots and tasks: queue keys, the exact strings, classifier answers.

The workspace boxes are not here: a box belongs to the furniture of a cell, and a simulated cell has its own
(AutoEval's sink box ends 9 cm above the simulated tray).

Source: eval_config.py and launcher.py of AutoEval at 3ea3ff4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationTask:
    """One task as AutoEval runs it: what the policy is told, what the classifier is asked and should say.

    `answers` are the classifier's words for "done" and "not done".
    """

    task: str
    instruction: str
    reset_instruction: str
    question: str
    answers: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Robot:
    """One arm: its queue key, its number in the live view, and its tasks."""

    key: str
    index: int
    tasks: tuple[EvaluationTask, ...]

    def task(self, name: str) -> EvaluationTask | None:
        return next((task for task in self.tasks if task.task == name), None)


_DRAWER: Final = "is the drawer open? answer yes or no"
_TRAYS: Final = "is the eggplant in the sink or in the basket? answer sink or basket or invalid"


def _task(name: str, words: tuple[str, str], *, question: str, answers: tuple[str, str]) -> EvaluationTask:
    instruction, back = words
    return EvaluationTask(
        task=name, instruction=instruction, reset_instruction=back, question=question, answers=answers
    )


_OPEN, _CLOSE = "open the drawer", "close the drawer"
_SINK, _BASKET = "put the eggplant in the blue sink", "put the eggplant in the yellow basket"

ROBOTS: Final[dict[str, Robot]] = {
    robot.key: robot
    for robot in (
        Robot(
            key="widowx_drawer",
            index=0,
            tasks=(
                _task("open_drawer", (_OPEN, _CLOSE), question=_DRAWER, answers=("yes", "no")),
                _task("close_drawer", (_CLOSE, _OPEN), question=_DRAWER, answers=("no", "yes")),
            ),
        ),
        Robot(
            key="widowx_sink",
            index=1,
            tasks=(
                _task(
                    "put_eggplant_blue_sink", (_SINK, _BASKET), question=_TRAYS, answers=("sink", "basket")
                ),
                _task(
                    "put_eggplant_yellow_basket",
                    (_BASKET, _SINK),
                    question=_TRAYS,
                    answers=("basket", "sink"),
                ),
            ),
        ),
    )
}
