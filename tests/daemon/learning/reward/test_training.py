"""Teaching the judge: which frames count, that no class drowns the other, and that it learns."""

from collections.abc import Sequence

import pytest
import torch

from daemon.learning.augment import Augmentation
from daemon.learning.batch import Clip, ClipInvalid
from daemon.learning.errors import BadTensor, NonFiniteLoss
from daemon.learning.reward.classifier import ClassifierJudge, new_judge
from daemon.learning.reward.training import (
    Agreement,
    JudgeConfig,
    JudgeExamples,
    NothingJudged,
    agreement,
    balanced_weights,
    examples_of,
    train_judge,
)

LEFT, RIGHT = "push the square left", "push the square right"


def a_judge() -> ClassifierJudge:
    return new_judge((LEFT, RIGHT), seed=0, width=32)


def square_at(x: int) -> torch.Tensor:
    picture = torch.full((3, 64, 64), 30, dtype=torch.uint8)
    picture[0, 24:36, x : x + 12] = 230
    return picture


def a_clip(
    instruction: str = RIGHT, *, success: bool | None = None, by_frame: Sequence[bool] | None = None
) -> Clip:
    return Clip(
        frames=torch.stack([square_at(x) for x in (10, 20, 30, 40)]),
        actions=torch.zeros(3, 7),
        instruction=instruction,
        episode_id="e1",
        success=success,
        success_by_frame=None if by_frame is None else torch.tensor(by_frame),
    )


def scattered(count: int, seed: int, *, sentences: Sequence[str] = (LEFT, RIGHT)) -> JudgeExamples:
    """Squares at random places; success is to be on the side that was asked for."""
    places = torch.randint(0, 52, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    instructions = tuple(sentences[i % len(sentences)] for i in range(count))
    return JudgeExamples(
        frames=torch.stack([square_at(x) for x in places]),
        instructions=instructions,
        success=torch.tensor(
            [(x > 26) == (sentence == RIGHT) for x, sentence in zip(places, instructions, strict=True)]
        ),
    )


def quiet(_: int, __: dict[str, float]) -> None:
    """Nobody listens."""


def test_every_frame_counts_where_every_frame_is_labelled() -> None:
    examples = examples_of([a_clip(by_frame=[False, False, True, True], success=True)])
    assert examples.success.tolist() == [False, False, True, True]
    assert torch.equal(examples.frames, a_clip().frames)
    assert examples.instructions == (RIGHT,) * 4


@pytest.mark.parametrize("success", [True, False])
def test_with_one_verdict_per_episode_only_the_last_frame_counts(success: bool) -> None:
    examples = examples_of([a_clip(success=success)])
    assert examples.success.tolist() == [success]
    assert torch.equal(examples.frames, a_clip().frames[-1:])


def test_clips_without_a_verdict_are_passed_over() -> None:
    examples = examples_of([a_clip(LEFT), a_clip(RIGHT, success=True), a_clip(LEFT)])
    assert examples.instructions == (RIGHT,)


def test_clips_follow_each_other() -> None:
    examples = examples_of([a_clip(LEFT, success=False), a_clip(RIGHT, by_frame=[False, True, True, True])])
    assert examples.instructions == (LEFT, *(RIGHT,) * 4)
    assert examples.success.tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("clips", [[], [a_clip(), a_clip(LEFT)]])
def test_without_any_verdict_there_is_nothing_to_learn(clips: list[Clip]) -> None:
    with pytest.raises(NothingJudged, match=f"none of {len(clips)}") as refused:
        examples_of(clips)
    assert refused.value.code == "nothing_judged"


def test_a_broken_clip_is_refused() -> None:
    with pytest.raises(ClipInvalid):
        examples_of([a_clip(by_frame=[True, False])])


def test_each_instruction_and_label_is_drawn_equally_often() -> None:
    instructions = [LEFT] * 10 + [RIGHT] * 5
    success = torch.tensor([True] + [False] * 9 + [True] * 4 + [False])
    weights = balanced_weights(instructions, success)
    share: dict[tuple[str, bool], float] = {}
    for weight, pair in zip(weights.tolist(), zip(instructions, success.tolist(), strict=True), strict=True):
        share[pair] = share.get(pair, 0.0) + weight
    assert list(share.values()) == [pytest.approx(1.0)] * 4


def test_an_instruction_that_only_ever_failed_is_still_drawn() -> None:
    weights = balanced_weights([LEFT, LEFT, RIGHT], torch.tensor([False, False, True]))
    assert weights.tolist() == [0.5, 0.5, 1.0]


def test_it_learns_to_tell_success_by_the_instruction() -> None:
    judge = a_judge()
    config = JudgeConfig(updates=120, batch=32, lr=3e-3, augment=Augmentation(shift=1))
    report = train_judge(judge, scattered(300, seed=0), config=config, on_update=quiet)
    assert report.accuracy > 0.85
    assert report.loss < 0.4
    for found in agreement(judge, scattered(200, seed=1)).values():
        assert found.right_on_successes is not None
        assert found.right_on_failures is not None
        assert min(found.right_on_successes, found.right_on_failures) > 0.8
    frames = torch.stack([square_at(4), square_at(46)])[:, None].expand(-1, 3, -1, -1, -1)
    assert judge.judge(frames, [RIGHT, RIGHT]).success.tolist() == [False, True]
    assert judge.judge(frames, [LEFT, LEFT]).success.tolist() == [True, False]


def test_a_rare_success_is_not_drowned() -> None:
    """One success in thirty: always saying no would be right 97 % of the time, and is not good enough."""
    places = [2 + i % 20 for i in range(58)] + [46, 48]
    examples = JudgeExamples(
        frames=torch.stack([square_at(x) for x in places]),
        instructions=(RIGHT,) * 60,
        success=torch.tensor([x > 26 for x in places]),
    )
    judge = a_judge()
    train_judge(judge, examples, config=JudgeConfig(updates=60, batch=16, lr=3e-3), on_update=quiet)
    found = agreement(judge, examples)[RIGHT]
    assert (found.successes, found.failures) == (2, 58)
    assert found.right_on_successes == 1.0
    assert found.right_on_failures is not None
    assert found.right_on_failures > 0.9


def test_where_nobody_can_tell_a_judge_learns_to_decline() -> None:
    told = scattered(200, seed=0)
    empty = torch.zeros(100, 3, 64, 64, dtype=torch.uint8)
    marks = torch.zeros(100, dtype=torch.bool)
    examples = JudgeExamples(
        frames=torch.cat([told.frames, empty]),
        instructions=(*told.instructions, *[LEFT, RIGHT] * 50),
        success=torch.cat([told.success, marks]),
        doubtful=torch.cat([torch.zeros(200, dtype=torch.bool), ~marks]),
    )
    judge = a_judge()
    config = JudgeConfig(updates=150, batch=48, lr=3e-3, augment=None)
    report = train_judge(judge, examples, config=config, on_update=quiet)
    assert report.accuracy > 0.85, "of those that can be told"
    verdicts = judge.judge(empty[:2, None], [LEFT, RIGHT])
    assert verdicts.known.tolist() == [False, False]
    assert all(abs(p - 0.5) < 0.2 for p in verdicts.probability.tolist())
    frames = torch.stack([square_at(4), square_at(46)])[:, None]
    assert judge.judge(frames, [RIGHT, RIGHT]).success.tolist() == [False, True]
    assert agreement(judge, examples)[LEFT].failures == agreement(judge, told)[LEFT].failures


class AlwaysYes(ClassifierJudge):
    """Finds success everywhere."""

    def logits(self, frames: torch.Tensor, instructions: Sequence[str]) -> torch.Tensor:
        return torch.ones(len(frames))


def test_agreement_counts_each_label_apart() -> None:
    base = a_judge()
    judge = AlwaysYes(base.model, base.tokenizer)
    examples = JudgeExamples(
        frames=torch.stack([square_at(x) for x in (1, 2, 3, 4)]),
        instructions=(LEFT, LEFT, LEFT, RIGHT),
        success=torch.tensor([True, False, False, True]),
    )
    assert agreement(judge, examples) == {
        LEFT: Agreement(successes=1, failures=2, right_on_successes=1.0, right_on_failures=0.0),
        RIGHT: Agreement(successes=1, failures=0, right_on_successes=1.0, right_on_failures=None),
    }


def test_updates_are_told_and_the_report_is_their_end() -> None:
    told: list[tuple[int, dict[str, float]]] = []
    report = train_judge(
        a_judge(),
        scattered(20, seed=0),
        config=JudgeConfig(updates=5, batch=8),
        on_update=lambda number, metrics: told.append((number, metrics)),
    )
    assert [number for number, _ in told] == [1, 2, 3, 4, 5]
    assert set(told[0][1]) == {"loss", "accuracy", "grad_norm"}
    assert (report.updates, report.loss, report.accuracy) == (5, told[-1][1]["loss"], told[-1][1]["accuracy"])


def test_the_same_seed_trains_the_same_judge() -> None:
    def weights(seed: int) -> torch.Tensor:
        judge = a_judge()
        train_judge(
            judge, scattered(20, seed=0), config=JudgeConfig(updates=3, batch=8, seed=seed), on_update=quiet
        )
        return judge.model.conv1.weight.detach().clone()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_half_of_what_was_learned_lies_halfway_between_before_and_after() -> None:
    def weights(mixing: float, updates: int = 3) -> dict[str, torch.Tensor]:
        judge = a_judge()
        config = JudgeConfig(updates=updates, batch=8, lr=1e-2, mixing=mixing)
        train_judge(judge, scattered(20, seed=0), config=config, on_update=quiet)
        return {name: weight.detach() for name, weight in judge.model.named_parameters()}

    before, after = weights(1.0, updates=0), weights(1.0)
    assert not torch.equal(before["conv1.weight"], after["conv1.weight"])
    for name, weight in weights(0.5).items():
        torch.testing.assert_close(weight, (before[name] + after[name]) / 2)
    for name, weight in weights(0.0).items():
        assert torch.equal(weight, before[name])


@pytest.mark.parametrize(
    ("frames", "instructions", "success"),
    [
        (torch.zeros(2, 3, 64, 64), 2, torch.ones(2, dtype=torch.bool)),
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), 1, torch.ones(2, dtype=torch.bool)),
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), 2, torch.ones(3, dtype=torch.bool)),
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), 2, torch.ones(2)),
    ],
)
def test_examples_that_do_not_fit_are_refused(
    frames: torch.Tensor, instructions: int, success: torch.Tensor
) -> None:
    examples = JudgeExamples(frames=frames, instructions=(LEFT,) * instructions, success=success)
    with pytest.raises(BadTensor, match="judge examples"):
        train_judge(a_judge(), examples, config=JudgeConfig(updates=1), on_update=quiet)
    with pytest.raises(BadTensor, match="judge examples"):
        agreement(a_judge(), examples)


def test_a_network_that_has_gone_wrong_is_not_trained_on() -> None:
    judge = a_judge()
    with torch.no_grad():
        judge.model.words.weight.fill_(torch.inf)
    before = judge.model.conv1.weight.detach().clone()
    with pytest.raises(NonFiniteLoss, match="judge stopped at update 1"):
        train_judge(judge, scattered(8, seed=0), config=JudgeConfig(updates=2, batch=4), on_update=quiet)
    assert torch.equal(judge.model.conv1.weight, before)
