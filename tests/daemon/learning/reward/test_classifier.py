"""The classifier as a judge: the mean over the last frames, the right to decline, and its checkpoint."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from daemon.learning.errors import BadTensor
from daemon.learning.reward.classifier import JUDGED_FRAMES, BadAbstention, ClassifierJudge, new_judge
from daemon.learning.reward.judge import Judge
from daemon.learning.state import CheckpointUnreadable, load_state, save_state

OPEN, CLOSE = "open the drawer", "close the drawer"


class BrightnessJudge(ClassifierJudge):
    """Takes the brightness of a frame for its probability of success, so that verdicts can be worked out."""

    def logits(self, frames: torch.Tensor, instructions: Sequence[str]) -> torch.Tensor:
        return (frames.float().mean(dim=(1, 2, 3)) / 255).logit()


def by_brightness(*, abstain_within: float = 0.1) -> BrightnessJudge:
    base = new_judge((OPEN, CLOSE), seed=0, width=16)
    return BrightnessJudge(base.model, base.tokenizer, abstain_within=abstain_within)


def film(*probabilities: float) -> torch.Tensor:
    """One rollout whose frames are as bright as they are successful."""
    levels = torch.tensor([round(255 * p) for p in probabilities], dtype=torch.uint8)
    return levels[None, :, None, None, None].expand(1, -1, 3, 64, 64).contiguous()


def noise(rollouts: int, frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (rollouts, frames, 3, 64, 64), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("probabilities", "success", "known"),
    [
        ((0.8, 0.8, 0.8), True, True),
        ((0.2, 0.2, 0.2), False, True),
        ((1.0, 1.0, 0.2), True, True),  # the mean, not the last frame
        ((0.0, 0.0, 0.8), False, True),
        ((0.55, 0.55, 0.55), True, False),  # too close to call
        ((0.45, 0.45, 0.45), False, False),
        ((1.0, 0.5, 0.0), False, False),
        ((1.0, 1.0, 1.0, 0.2, 0.2, 0.2), False, True),  # success that did not last
        ((0.0, 0.0, 0.0, 0.9, 0.9, 0.9), True, True),
        ((0.9,), True, True),  # fewer frames than it would like
    ],
)
def test_a_verdict_is_the_mean_over_the_last_three_frames(
    probabilities: tuple[float, ...], success: bool, known: bool
) -> None:
    verdicts = by_brightness().judge(film(*probabilities), [OPEN])
    last = probabilities[-JUDGED_FRAMES:]
    assert verdicts.probability.item() == pytest.approx(sum(last) / len(last), abs=0.01)
    assert verdicts.known.tolist() == [known]
    if known:
        assert verdicts.success.tolist() == [success]


@pytest.mark.parametrize(("within", "known"), [(0.0, True), (0.04, True), (0.06, False), (0.4, False)])
def test_how_close_is_too_close_can_be_chosen(within: float, known: bool) -> None:
    verdicts = by_brightness(abstain_within=within).judge(film(0.55, 0.55, 0.55), [OPEN])
    assert verdicts.known.tolist() == [known]


def test_a_judge_that_has_gone_wrong_declines() -> None:
    judge = new_judge((OPEN, CLOSE), seed=0, width=16)
    with torch.no_grad():
        judge.model.words.weight.fill_(torch.nan)
    verdicts = judge.judge(noise(3, 3), [OPEN] * 3)
    assert verdicts.known.tolist() == [False] * 3


def test_each_rollout_is_judged_on_its_own_frames_and_instruction() -> None:
    judge = new_judge((OPEN, CLOSE), seed=0, width=16)
    films, sentences = noise(4, 5), [OPEN, CLOSE, OPEN, CLOSE]
    together = judge.judge(films, sentences).probability
    alone = torch.cat([judge.judge(films[b : b + 1], [sentences[b]]).probability for b in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)
    by_frame = judge.probabilities(films[:, -3:].flatten(0, 1), [s for s in sentences for _ in range(3)])
    torch.testing.assert_close(together, by_frame.view(4, 3).mean(dim=1))


def test_many_frames_are_judged_in_parts_with_the_same_result() -> None:
    judge = new_judge((OPEN, CLOSE), seed=0, width=16)
    frames = noise(1, 1)[0].expand(600, -1, -1, -1)
    probabilities = judge.probabilities(frames, [OPEN] * 600)
    assert probabilities.shape == (600,)
    torch.testing.assert_close(probabilities, probabilities[:1].expand(600), atol=1e-6, rtol=1e-5)


def test_along_a_film_it_says_what_it_would_say_if_the_film_ended_there() -> None:
    judge, films = by_brightness(), torch.cat([film(0.0, 0.2, 0.4, 0.9, 1.0), film(1.0, 0.8, 0.6, 0.0, 0.0)])
    along = judge.along(films, [OPEN, CLOSE])
    assert along.shape == (2, 5)
    for frame in range(5):
        shown = films[:, max(0, frame + 1 - JUDGED_FRAMES) : frame + 1]
        assert torch.allclose(along[:, frame], judge.judge(shown, [OPEN, CLOSE]).probability, atol=1e-5)
    assert along[0].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.5, 0.767], abs=0.01)
    with pytest.raises(BadTensor):
        judge.along(films, [OPEN])
    with pytest.raises(BadTensor):
        judge.along(films[0], [OPEN] * 5)


def test_no_rollouts_get_no_verdicts() -> None:
    verdicts = new_judge((OPEN,), seed=0, width=16).judge(noise(0, 3), [])
    assert verdicts.success.shape == verdicts.known.shape == verdicts.probability.shape == (0,)


def test_it_is_a_judge_and_its_verdicts_have_the_promised_types() -> None:
    judge: Judge = new_judge((OPEN,), seed=0, width=16)
    verdicts = judge.judge(noise(2, judge.frames), [OPEN] * 2)
    assert judge.frames == 3
    assert (verdicts.success.dtype, verdicts.known.dtype, verdicts.probability.dtype) == (
        torch.bool,
        torch.bool,
        torch.float32,
    )
    assert not verdicts.probability.requires_grad


def test_a_checkpoint_brings_back_the_same_judge(tmp_path: Path) -> None:
    base = new_judge((OPEN, CLOSE), seed=0, width=16)
    judge = ClassifierJudge(base.model, base.tokenizer, abstain_within=0.2)
    judge.save(tmp_path / "judge.safetensors", {"accuracy": 0.9})
    again = ClassifierJudge.load(tmp_path / "judge.safetensors", precision=torch.bfloat16)
    assert again.abstain_within == 0.2
    assert again.precision == torch.bfloat16
    again.precision = torch.float32
    films = noise(4, 3)
    torch.testing.assert_close(
        again.judge(films, [OPEN, "wipe the table"] * 2).probability,
        judge.judge(films, [OPEN, "wipe the table"] * 2).probability,
        atol=5e-3,
        rtol=5e-3,
    )
    assert load_state(tmp_path / "judge.safetensors").card == {"accuracy": 0.9}


@pytest.mark.parametrize(
    "part", ["no sizes", "no tokenizer", "no band", "band of everything", "a tensor missing", "another kind"]
)
def test_a_checkpoint_whose_parts_do_not_fit_is_refused(tmp_path: Path, part: str) -> None:
    path = tmp_path / "judge.safetensors"
    new_judge((OPEN, CLOSE), seed=0, width=16).save(path, {})
    state = load_state(path)
    config, extra, tensors = dict(state.config), dict(state.extra), dict(state.tensors)
    match part:
        case "no sizes":
            config["model"] = {}
        case "no tokenizer":
            extra = {}
        case "no band":
            del config["abstain_within"]
        case "band of everything":
            config["abstain_within"] = 0.5
        case "a tensor missing":
            tensors.pop("mix.bias")
    kind = "policy" if part == "another kind" else "judge"
    save_state(path, tensors, kind=kind, config=config, card={}, extra=extra)
    with pytest.raises(CheckpointUnreadable):
        ClassifierJudge.load(path)


@pytest.mark.parametrize("within", [-0.1, 0.5, 1.0, float("nan")])
def test_a_judge_that_would_never_speak_is_refused(within: float) -> None:
    base = new_judge((OPEN,), seed=0, width=16)
    with pytest.raises(BadAbstention) as refused:
        ClassifierJudge(base.model, base.tokenizer, abstain_within=within)
    assert refused.value.code == "bad_abstention"


@pytest.mark.parametrize(
    "frames",
    [
        torch.zeros(2, 3, 3, 64, 64),
        torch.zeros(2, 0, 3, 64, 64, dtype=torch.uint8),
        torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
    ],
)
def test_frames_of_another_kind_are_refused(frames: torch.Tensor) -> None:
    with pytest.raises(BadTensor, match="frames"):
        new_judge((OPEN,), seed=0, width=16).judge(frames, [OPEN] * 2)


def test_every_rollout_needs_its_instruction() -> None:
    with pytest.raises(BadTensor, match="one instruction each"):
        new_judge((OPEN,), seed=0, width=16).judge(noise(2, 3), [OPEN])


def test_a_seed_decides_the_weights() -> None:
    one, two, other = (new_judge((OPEN, CLOSE), seed=s, width=16).model.state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])
