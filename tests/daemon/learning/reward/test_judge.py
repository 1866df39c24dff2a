"""What every judge is given: films of the right type, and one instruction for each."""

import pytest
import torch

from daemon.learning.errors import BadTensor
from daemon.learning.reward.judge import JudgeExhausted, Verdicts, WhileItLasts, require_films


@pytest.mark.parametrize(("batch", "frames"), [(0, 1), (1, 1), (3, 41)])
def test_films_are_bytes_with_one_instruction_each(batch: int, frames: int) -> None:
    require_films(torch.zeros(batch, frames, 3, 8, 8, dtype=torch.uint8), ["open the drawer"] * batch)


@pytest.mark.parametrize(
    ("films", "sentences"),
    [
        (torch.zeros(2, 3, 3, 8, 8), 2),  # floats
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 2),  # no time
        (torch.zeros(2, 0, 3, 8, 8, dtype=torch.uint8), 2),  # no frame
        (torch.zeros(2, 3, 3, 8, 8, dtype=torch.uint8), 1),
        (torch.zeros(2, 3, 3, 8, 8, dtype=torch.uint8), 3),
    ],
)
def test_everything_else_is_refused_and_named(films: torch.Tensor, sentences: int) -> None:
    with pytest.raises(BadTensor, match="one instruction each") as refused:
        require_films(films, ["open the drawer"] * sentences)
    assert str(list(films.shape)) in str(refused.value)


def test_a_judge_that_may_not_be_asked_any_more_has_its_own_code() -> None:
    assert JudgeExhausted("spent").code == "judge_exhausted"


class Bright:
    """Sees success in what is bright, so many times."""

    frames = 3

    def __init__(self, times: int) -> None:
        self.times = times

    def judge(self, frames: torch.Tensor, instructions: list[str]) -> Verdicts:
        if not self.times:
            raise JudgeExhausted("spent")
        self.times -= 1
        light = frames.flatten(1).float().mean(1)
        return Verdicts(success=light > 9, known=torch.ones(len(light), dtype=torch.bool), probability=light)


def test_while_it_lasts_a_judge_judges_and_then_it_declines() -> None:
    judge, films = WhileItLasts(Bright(times=1)), torch.full((2, 3, 3, 8, 8), 10, dtype=torch.uint8)
    assert (judge.frames, judge.exhausted) == (3, False)
    first, then = (judge.judge(films, ["open", "open"]) for _ in range(2))
    assert (first.success.tolist(), first.known.tolist()) == ([True, True], [True, True])
    assert (then.known.tolist(), then.probability.tolist()) == ([False, False], [0.5, 0.5])
    assert judge.exhausted
