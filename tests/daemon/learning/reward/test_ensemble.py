"""Several judges as one: agreement is a verdict, disagreement is none."""

from collections.abc import Sequence

import pytest
import torch

from daemon.learning.reward.ensemble import EnsembleJudge
from daemon.learning.reward.judge import Verdicts

INSTRUCTION = ("open the drawer",)


class Says:
    """Gives one answer, True, False or None for unknown, and remembers what it saw."""

    def __init__(self, answer: bool | None, *, frames: int = 2) -> None:
        self.answer, self.frames, self.seen = answer, frames, 0

    def judge(self, frames: torch.Tensor, instructions: Sequence[str]) -> Verdicts:
        self.seen = frames.shape[1]
        return Verdicts(
            success=torch.full((len(frames),), bool(self.answer)),
            known=torch.full((len(frames),), self.answer is not None),
            probability=torch.full((len(frames),), 0.5 if self.answer is None else float(self.answer)),
        )


def asked(*answers: bool | None) -> Verdicts:
    judge = EnsembleJudge([Says(answer) for answer in answers])
    return judge.judge(torch.zeros(1, 4, 3, 8, 8, dtype=torch.uint8), INSTRUCTION)


def test_who_said_what_is_told_beside_what_they_say_together() -> None:
    said = asked(True, None, False)
    assert [bool(member.known) for member in said.members] == [True, False, True]
    assert [bool(member.success) for member in said.members] == [True, False, False]


@pytest.mark.parametrize(
    ("answers", "known", "success"),
    [
        ((True, True), True, True),
        ((False, False), True, False),
        ((True, False), False, False),
        ((True, None), False, False),  # one alone is no ensemble
        ((None, None), False, False),
        ((True, True, None), True, True),
        ((True, True, False), False, False),  # a majority is not agreement
        ((False, False, None), True, False),
    ],
)
def test_two_must_know_and_nobody_may_deny(
    answers: tuple[bool | None, ...], known: bool, success: bool
) -> None:
    found = asked(*answers)
    assert (bool(found.known[0]), bool(found.success[0])) == (known, success)


def test_its_probability_is_the_mean_of_theirs() -> None:
    assert asked(True, False, None).probability.tolist() == [0.5]
    assert asked(True, True).probability.tolist() == [1.0]


def test_each_judge_sees_as_many_of_the_last_frames_as_it_wants() -> None:
    few, many = Says(True, frames=2), Says(True, frames=4)
    judge = EnsembleJudge([few, many])
    assert judge.frames == 4
    judge.judge(torch.zeros(1, 4, 3, 8, 8, dtype=torch.uint8), INSTRUCTION)
    assert (few.seen, many.seen) == (2, 4)
