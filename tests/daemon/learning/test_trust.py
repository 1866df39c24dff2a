"""The trust meter counts what it says: agreement, optimism, sensitivity to actions, and a horizon."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from daemon.learning.batch import Clip, NoWindow
from daemon.learning.drift import rehearse
from daemon.learning.reward.judge import Verdicts
from daemon.learning.trust import (
    Outcomes,
    Trust,
    imagination_horizon,
    imagined_ends,
    measure_trust,
    with_strangers_actions,
)
from daemon.learning.world_model.model import WorldModel, nano_world_model, with_stride


class Scripted:
    """Says what it was told to say, one verdict after the other: True, False, or None for "unknown"."""

    frames = 2

    def __init__(self, *says: bool | None) -> None:
        self.says = list(says)
        self.seen: list[Tensor] = []

    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        assert frames.shape[1:] == (2, 3, 64, 64)
        self.seen.append(frames)
        said = [self.says.pop(0) for _ in instructions]
        return Verdicts(
            success=torch.tensor([bool(each) for each in said]),
            known=torch.tensor([each is not None for each in said]),
            probability=torch.zeros(len(said)),
        )


@pytest.fixture
def world_model() -> WorldModel:
    model = nano_world_model(seed=0, in_channels=4, dim=32, layers=1, heads=2, max_frames=4)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.transformer.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    model.precision = torch.float32
    return model


def a_clip(seed: int, *, success: bool | None, steps: int = 5, instruction: str = "open the drawer") -> Clip:
    generator = torch.Generator().manual_seed(seed)
    return Clip(
        frames=torch.randint(256, (steps + 1, 3, 64, 64), dtype=torch.uint8, generator=generator),
        actions=torch.randn(steps, 7, generator=generator) * 0.02,
        instruction=instruction,
        episode_id=f"clip-{seed}",
        success=success,
    )


def trusted(world_model: WorldModel, judge: Scripted, clips: list[Clip], *, steps: int = 5) -> Trust:
    rehearsal = rehearse(world_model, clips, steps=steps, seed=0)
    return measure_trust(world_model, judge, rehearsal, threshold=1e9, seed=0)


def test_outcomes_are_counted_by_instruction_and_the_unknown_apart(world_model: WorldModel):
    clips = [a_clip(i, success=real) for i, real in enumerate((True, True, False, False, True))]
    clips.append(a_clip(9, success=False, instruction="close the drawer"))
    judge = Scripted(True, False, True, False, None, True)
    found = trusted(world_model, judge, clips).outcomes
    assert found == {
        "open the drawer": Outcomes(hits=1, missed=1, false_hopes=1, rightly_failed=1, declined=1),
        "close the drawer": Outcomes(hits=0, missed=0, false_hopes=1, rightly_failed=0, declined=0),
    }


@pytest.mark.parametrize(
    ("counts", "agreement", "optimism"),
    [
        ((6, 2, 1, 3), 9 / 12, 1 / 12),  # imagined 8 of 12, real 7 of 12
        ((5, 0, 5, 0), 0.5, -0.5),
        ((3, 0, 0, 7), 1.0, 0.0),
        ((0, 0, 0, 0), None, None),
    ],
)
def test_optimism_is_imagined_minus_real_success(counts, agreement, optimism):
    names = ("hits", "false_hopes", "missed", "rightly_failed")
    own = Outcomes(**dict(zip(names, counts, strict=True)), declined=4)
    assert own.agreement == pytest.approx(agreement)
    assert own.optimism == pytest.approx(optimism)


def test_episodes_without_a_label_count_for_drift_alone(world_model: WorldModel):
    clips = [a_clip(0, success=None), a_clip(1, success=True)]
    trust = trusted(world_model, Scripted(True), clips)
    assert trust.drift.episodes[1] == 2
    assert sum(own.known for own in trust.outcomes.values()) == 1


def test_the_judge_sees_the_imagined_end_of_every_episode_whatever_its_length(world_model: WorldModel):
    clips = [a_clip(0, success=True, steps=3), a_clip(1, success=True, steps=6)]
    judge = Scripted(True, True)
    trusted(world_model, judge, clips, steps=2)
    ends = imagined_ends(world_model, clips, frames=2, seed=0)
    assert torch.equal(judge.seen[0], torch.stack(ends))
    assert not torch.equal(ends[0], ends[1])


def test_a_model_that_listens_errs_more_with_a_strangers_actions(world_model: WorldModel):
    """What it imagines with its own actions is taken for real: then they are right and others wrong."""
    clips = []
    for seed in range(4):
        clip = a_clip(seed, success=True)
        (film,) = imagined_ends(world_model, [clip], frames=6, seed=seed)
        clips.append(Clip(**{**{k: getattr(clip, k) for k in Clip.__slots__}, "frames": film}))
    trust = trusted(world_model, Scripted(*[True] * 4), clips)
    assert trust.sensitivity is not None
    assert trust.shuffled.keys() == trust.drift.latents.keys()


def test_sensitivity_compares_the_same_episodes_at_every_step(world_model: WorldModel):
    """A stranger that stops early cuts an episode short; what is left of that one counts on neither side."""
    clips = [a_clip(seed, success=True, steps=steps) for seed, steps in ((0, 6), (1, 2), (2, 6))]
    strangers = with_strangers_actions(clips)
    assert [clip.steps for clip in strangers] == [2, 2, 6]
    cut = [a_clip(seed, success=True, steps=6) for seed in (0, 1, 2)]
    cut = [
        replace(clip, frames=whole.frames[: other.steps + 1], actions=whole.actions[: other.steps])
        for clip, whole, other in zip(cut, clips, strangers, strict=True)
    ]
    own = rehearse(world_model, cut, steps=6, seed=0).drift.latents
    trust = trusted(world_model, Scripted(True, True, True), clips, steps=6)
    expected = sum(trust.shuffled[step] / own[step] for step in own) / len(own)
    assert trust.sensitivity == pytest.approx(expected, rel=1e-4)


def test_ends_of_older_episodes_count_beside(world_model: WorldModel):
    fresh, older = ([a_clip(seed, success=True)] for seed in (0, 1))
    rehearsals = [rehearse(world_model, clips, steps=5, seed=0) for clips in (fresh, older)]
    judge = Scripted(True, False)
    trust = measure_trust(world_model, judge, rehearsals[0], threshold=1e9, seed=0, older=rehearsals[1:])
    assert trust.outcomes["open the drawer"] == Outcomes(
        hits=1, missed=1, false_hopes=0, rightly_failed=0, declined=0
    )
    assert trust.drift.episodes[1] == 1, "drift is told of the fresh ones alone"


def test_one_episode_has_no_stranger_to_take_actions_from(world_model: WorldModel):
    trust = trusted(world_model, Scripted(True), [a_clip(0, success=True)])
    assert (trust.sensitivity, trust.shuffled) == (None, {})


def test_strangers_actions_are_the_next_episodes_cut_to_the_shorter():
    clips = [a_clip(0, success=True, steps=5), a_clip(1, success=True, steps=3)]
    mixed = with_strangers_actions(clips)
    assert [clip.steps for clip in mixed] == [3, 3]
    assert torch.equal(mixed[0].actions, clips[1].actions)
    assert torch.equal(mixed[1].actions, clips[0].actions[:3])
    assert torch.equal(mixed[0].frames, clips[0].frames[:4])


@pytest.mark.parametrize(
    ("errors", "horizon"),
    [
        ({1: 0.1, 2: 0.2, 3: 0.3}, 3),
        ({1: 0.1, 2: 0.6, 3: 0.3}, 1),  # the first crossing counts, not the last
        ({1: 0.1, 2: 0.5, 3: 0.6}, 1),  # at the threshold is not below it
        ({1: 0.9, 2: 0.9}, 1),  # at least one step
        ({1: 0.1, 2: 0.1, 3: float("nan"), 4: 0.1}, 2),  # what cannot be measured is not believed
    ],
)
def test_the_horizon_is_the_last_step_before_the_error_reaches_the_threshold(errors, horizon: int):
    assert imagination_horizon(errors, threshold=0.5) == horizon


def test_drift_is_measured_at_every_step_as_far_as_asked_and_as_episodes_go(world_model: WorldModel):
    clips = [a_clip(0, success=True, steps=4)]
    for asked, reached in ((3, 3), (40, 4)):
        trust = trusted(world_model, Scripted(True), clips, steps=asked)
        assert list(trust.drift.latents) == list(range(1, reached + 1))
        assert trust.horizon == reached


def test_without_an_episode_there_is_nothing_to_measure(world_model: WorldModel):
    with pytest.raises(NoWindow, match="none of 0 clips"):
        trusted(world_model, Scripted(), [])


def test_with_a_stride_trust_is_told_at_the_steps_that_are_imagined(world_model: WorldModel):
    strided = with_stride(world_model, 2, max_frames=4)
    clips = [a_clip(1, success=True), a_clip(2, success=False)]
    judge = Scripted(True, True)
    found = measure_trust(strided, judge, rehearse(strided, clips, steps=5, seed=0), threshold=1e9, seed=0)
    assert set(found.drift.latents) == set(found.shuffled) == {2, 4}
    assert found.horizon == 4
    assert found.sensitivity is not None
    (outcomes,) = found.outcomes.values()
    assert (outcomes.hits, outcomes.false_hopes) == (1, 1)
    last = judge.seen[0]
    assert not torch.equal(last[:, 0], last[:, 1]), "steps 4 and 5 of 5 are two imagined frames"
