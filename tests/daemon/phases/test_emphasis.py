"""What an episode is about, found by the judge on real pictures, costs more where a finetuning errs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from daemon.learning.reward.classifier import ClassifierJudge, new_judge
from daemon.learning.reward.success_classifier import looking_head
from daemon.learning.world_model.latents import SUBJECT_WEIGHT
from daemon.learning.world_model.model import nano_world_model
from daemon.phases import collect, finetune_world_model
from daemon.phases.clips import emphasis_seen
from daemon.phases.material import Material, gather, pools_of
from daemon.spec import FinetuneSpec
from tests.daemon.phases.conftest import SMALL, Lab
from tests.daemon.phases.test_learning_phases import a_clip, shelf_of


def looking_judge(*, sees: float = 0.0) -> ClassifierJudge:
    """A judge whose untaught head tells the same logit of every place, but for what is random in it."""
    judge = new_judge(["open the drawer"], seed=0, width=8)
    torch.manual_seed(0)
    judge.model.look = looking_head(8)
    with torch.no_grad():
        judge.model.look[-1].bias.fill_(sees)  # type: ignore[union-attr, operator]
    return judge


def test_a_judge_that_has_not_learned_to_look_emphasizes_nothing() -> None:
    clip = a_clip(4, success=True)
    assert emphasis_seen(None, clip, grid=8) is None
    assert emphasis_seen(new_judge(["open the drawer"], seed=0, width=8), clip, grid=8) is None


def test_nothing_is_emphasized_where_no_subject_is_to_be_seen() -> None:
    assert emphasis_seen(looking_judge(sees=-30.0), a_clip(4, success=True), grid=8) is None


@pytest.mark.parametrize("grid", [4, 8, 32])
def test_emphasis_lies_on_the_latents_grid_and_weighs_the_same_over_an_episode(grid: int) -> None:
    emphasis = emphasis_seen(looking_judge(), a_clip(4, success=True), grid=grid)
    assert emphasis is not None
    assert emphasis.shape == (5, grid, grid)
    assert float(emphasis.float().mean()) == pytest.approx(SUBJECT_WEIGHT, rel=1e-2)


def test_pictures_of_another_size_are_shown_to_the_judge_as_it_knows_them() -> None:
    small = a_clip(4, success=True)
    large = replace(small, frames=small.frames.repeat_interleave(2, 2).repeat_interleave(2, 3))
    first, second = (emphasis_seen(looking_judge(), clip, grid=8) for clip in (small, large))
    assert first is not None
    assert second is not None
    assert torch.allclose(first.float(), second.float(), atol=1e-2)


@pytest.fixture
def material(lab: Lab) -> Material:
    lab.do("collect", collect.run)
    return gather(lab.context("finetune_world_model"), shelf_of(lab), size=64)


def test_the_robots_own_episodes_are_emphasized_and_imported_ones_are_not(
    lab: Lab, material: Material
) -> None:
    """An imported clip shows another robot and is told in words that the judge has never read."""
    material = replace(material, base=material.fresh, older=material.fresh)
    world_model = nano_world_model(seed=0, dim=16, layers=1, heads=2, max_frames=6)
    spec = FinetuneSpec(base_share=0.5)
    pools = pools_of(world_model, shelf_of(lab), material=material, spec=spec, judge=looking_judge())
    emphasized = {pool.name: [clip.emphasis is not None for clip in pool.clips.clips] for pool in pools}
    count = len(material.fresh)
    assert count > 0
    assert emphasized.pop("grasps") == [True] * len(pools[-1].clips)
    assert emphasized == {"fresh": [True] * count, "older": [True] * count, "base": [False] * count}


def test_the_phase_shows_its_judge_what_it_learns_from(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []

    def noted(*arguments: object, judge: object = None, **rest: object) -> object:
        shown.append(judge)
        return pools_of(*arguments, judge=judge, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(finetune_world_model, "pools_of", noted)
    lab.request(SMALL)
    lab.do("collect", collect.run)
    lab.do("finetune_world_model", finetune_world_model.run)
    assert [type(judge) for judge in shown] == [ClassifierJudge]
