"""What is kept of a rehearsal for people to look at: strips of pictures, and the judge along them."""

import math

import torch

from daemon.learning.batch import Clip
from daemon.learning.reward.classifier import JUDGED_FRAMES
from daemon.phases.film import judged_along, rounded
from tests.daemon.phases.conftest import a_coin

SENTENCE = "open the drawer"
STEPS = 5


def a_film(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (STEPS + 1, 3, 64, 64), generator=generator).byte()


def a_clip() -> Clip:
    return Clip(
        episode_id="e", frames=a_film(1), actions=torch.zeros(STEPS, 7), instruction=SENTENCE, success=True
    )


def test_the_judge_says_of_each_film_what_it_would_say_if_it_ended_there() -> None:
    judge, clip, imagined = a_coin((SENTENCE,)), a_clip(), a_film(2)
    curves = judged_along(judge, clip, imagined)
    for name, film in (("real", clip.frames), ("imagined", imagined)):
        assert len(curves[name]) == STEPS + 1
        for frame, told in enumerate(curves[name]):
            shown = film[max(0, frame + 1 - JUDGED_FRAMES) : frame + 1]
            said = judge.judge(shown[None], [SENTENCE]).probability
            assert told is not None
            assert math.isclose(told, float(said), abs_tol=1e-4)
    assert curves["real"] != curves["imagined"]


def test_a_probability_that_is_no_number_is_told_as_none() -> None:
    told = rounded(torch.tensor([0.123456, float("nan"), float("inf"), 1.0]))
    assert told == [0.1235, None, None, 1.0]
