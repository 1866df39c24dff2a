"""The policy acts again in imagination from where it acted on the robot: what is counted, and of whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from daemon.learning.batch import Clip
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.policy.policy import new_policy
from daemon.learning.reward.judge import Verdicts
from daemon.learning.trust import OUTCOMES, Outcomes
from daemon.learning.world_model.model import WorldModel
from daemon.phases import closed_loop, collect, finetune_world_model, update_policy
from daemon.phases.closed_loop import MOST_STARTS, acted_again, acted_by, acting, imagined
from daemon.phases.context import PhaseContext
from daemon.phases.material import Material, gather
from daemon.spec import parse_spec
from storage import manifests, trust_reports
from storage.tables import CheckpointRow
from tests.daemon.learning.test_rollout import CountingEnv
from tests.daemon.phases.conftest import SMALL, Lab
from tests.daemon.phases.test_learning_phases import a_clip, shelf_of


class Brightness:
    """Success where the first picture was bright, nothing known where it was grey."""

    frames = 1

    def judge(self, frames: torch.Tensor, instructions: Sequence[str]) -> Verdicts:
        shade = frames[:, 0, 0].float().mean((1, 2))
        return Verdicts(success=shade > 200, known=(shade < 90) | (shade > 160), probability=shade / 255)


def begun(lab: Lab) -> tuple[PhaseContext, Material, WorldModel]:
    """A finetuning's context, what it learns from, and its world model."""
    context = lab.context("finetune_world_model")
    row = finetune_world_model.newest(context, "world_model")
    world_model = finetune_world_model.load_world_model(context, row)
    return context, gather(context, shelf_of(lab), size=64), world_model


def shaded(shade: int, *, success: bool) -> Clip:
    clip = a_clip(10, success=success)
    return replace(clip, frames=torch.full_like(clip.frames, shade))


def test_ends_are_counted_beside_the_labels_of_the_same_starts() -> None:
    clips = [
        shaded(255, success=True),
        shaded(255, success=False),
        shaded(0, success=True),
        shaded(0, success=False),
        shaded(128, success=True),
    ]
    env = CountingEnv()
    policy = new_policy((clips[0].instruction,), seed=0)
    spec = parse_spec(SMALL)
    found = imagined(policy, cast(ImaginedEnv, env), Brightness(), clips=clips, spec=spec)
    assert found == Outcomes(hits=1, false_hopes=1, missed=1, rightly_failed=1, declined=1)
    assert found.optimism == 0.0
    assert [chunk.shape[1] for chunk in env.chunks] == [policy.chunk] * (spec.steps // policy.chunk)
    assert torch.equal(env.starts, torch.stack([clip.frames[0] for clip in clips]))


def test_a_finetuning_tells_it_by_task_and_its_manifest_names_the_policy(lab: Lab) -> None:
    collected = lab.do("collect", collect.run)
    outcome: dict[str, Any] = lab.do("finetune_world_model", finetune_world_model.run)
    found = outcome["trust"]["closed_loop"]
    assert set(found["tasks"]) == {"open_drawer", "close_drawer"}
    counts = {task: sum(own[name] for name in OUTCOMES) for task, own in found["tasks"].items()}
    assert counts == {"open_drawer": 2, "close_drawer": 2}, "trained on or held out"
    assert sum(found["overall"][name] for name in OUTCOMES) == 4
    assert outcome["read"]["policy"] == collected["read"]["policy"]
    with lab.database.read() as session:
        kept = manifests.of_iteration(session, lab.iteration_id)["finetune_world_model"]
        went_on = (outcome["read"] | outcome["made"])["world_model"]
        reports = trust_reports.of_checkpoint(session, went_on)
    assert outcome["read"]["policy"] in kept.manifest.content
    assert [found] == [row.report["closed_loop"] for row in reports]


def test_the_same_seed_tells_the_same_again(lab: Lab) -> None:
    lab.do("collect", collect.run)
    context, material, world_model = begun(lab)
    policy = acting(context, material)
    assert policy is not None
    told = [
        acted_again(context, world_model, policy=policy, judge=Brightness(), material=material)
        for _ in range(2)
    ]
    assert told[0] == told[1]


def test_only_labelled_episodes_of_the_policy_itself_count(lab: Lab) -> None:
    lab.do("collect", collect.run)
    lab.do("finetune_world_model", finetune_world_model.run)
    updated = lab.do("update_policy", update_policy.run)
    lab.request({**SMALL, "seed": 4})
    both = lab.do("collect", collect.run)
    _, material, _ = begun(lab)
    made = cast(dict[str, str], updated["made"])["policy"]
    assert made == cast(dict[str, str], both["acted"])["candidate"]
    rows = [row for part in (material.fresh, material.held_out) for row in part.rows]
    for policy in {row.checkpoint_id for row in rows}:
        found = acted_by(CheckpointRow(id=policy), material)
        own = [row.id for row in rows if row.checkpoint_id == policy]
        assert sorted(clip.episode_id for clips in found.values() for clip in clips) == sorted(own)
    unlabelled = [replace(clip, success=None) for clip in material.fresh.clips]
    none = replace(material, fresh=replace(material.fresh, clips=unlabelled), held_out=material.older)
    assert acted_by(CheckpointRow(id=made), none) == {}


def test_where_nobody_acted_in_this_iteration_nothing_is_told(lab: Lab) -> None:
    lab.do("collect", collect.run)
    lab.do("finetune_world_model", finetune_world_model.run)
    lab.request({**SMALL, "phases": ["finetune_world_model"]})
    outcome: dict[str, Any] = lab.do("finetune_world_model", finetune_world_model.run)
    assert "closed_loop" not in outcome["trust"]
    assert "policy" not in outcome["read"]


def test_an_episode_that_is_shorter_than_a_decision_tells_nothing(lab: Lab) -> None:
    lab.do("collect", collect.run)
    context, material, world_model = begun(lab)
    short = replace(context, spec=context.spec.model_copy(update={"steps": 4}))
    policy = acting(context, material)
    assert policy is not None
    assert acted_again(short, world_model, policy=policy, judge=Brightness(), material=material) == {}


@pytest.mark.parametrize(("groups", "group_size", "most"), [(16, 8, MOST_STARTS), (1, 2, 2)])
def test_so_many_starts_of_a_task_at_most(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, groups: int, group_size: int, most: int
) -> None:
    lab.do("collect", collect.run)
    context, material, world_model = begun(lab)
    policy = acting(context, material)
    assert policy is not None
    clips = [shaded(0, success=False)] * 40
    monkeypatch.setattr(closed_loop, "acted_by", lambda *_: {"open_drawer": clips})
    asked: list[int] = []
    monkeypatch.setattr(closed_loop, "imagined", lambda *_, clips, spec: asked.append(len(clips)))
    own = context.spec.policy.model_copy(update={"groups": groups, "group_size": group_size})
    here = replace(context, spec=context.spec.model_copy(update={"policy": own}))
    acted_again(here, world_model, policy=policy, judge=Brightness(), material=material)
    assert asked == [most]
