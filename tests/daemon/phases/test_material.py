"""What a finetuning draws: a task's successes as often as its failures, and moves of the gripper."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from daemon.learning.batch import Clip
from daemon.learning.world_model.model import WorldModel, nano_world_model
from daemon.learning.world_model.windows import Pool
from daemon.phases import collect
from daemon.phases.material import MOST_ODDS, NONE, ROOM, Episodes, Material, even_odds, gather, pools_of
from daemon.spec import FinetuneSpec
from tests.daemon.phases.conftest import Lab
from tests.daemon.phases.test_learning_phases import a_clip, shelf_of

WINDOW = 6


def clips(*successes: bool | None, instruction: str = "open the drawer") -> list[Clip]:
    return [replace(a_clip(4, success=success), instruction=instruction) for success in successes]


def test_a_success_and_three_failures_weigh_the_same():
    assert even_odds(clips(True, False, False, False)) == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])


def test_tasks_are_evened_one_by_one_and_none_becomes_likelier_as_a_whole():
    opened = clips(True, True, True, False)
    closed = clips(False, True, False, instruction="close the drawer")
    odds = even_odds([*opened, *closed])
    assert sum(odds[:4]) == pytest.approx(4)
    assert sum(odds[4:]) == pytest.approx(3)
    assert odds[5] == pytest.approx(1.5)


def test_where_a_task_only_succeeded_or_nobody_said_nothing_changes():
    assert even_odds(clips(True, True)) == [1, 1]
    assert even_odds(clips(None, None)) == [1, 1]
    assert even_odds(clips(True, None, False, None)) == [1, 1, 1, 1]
    assert even_odds([]) == []


def test_what_happened_once_in_a_hundred_times_is_not_shown_again_and_again():
    odds = even_odds(clips(True, *[False] * 99))
    assert odds[0] == MOST_ODDS
    assert odds[1] == pytest.approx(100 / 198)


@pytest.fixture
def material(lab: Lab) -> Material:
    lab.do("collect", collect.run)
    found = gather(lab.context("finetune_world_model"), shelf_of(lab), size=64)
    return replace(found, older=found.fresh, base=found.fresh)


@pytest.fixture
def world_model() -> WorldModel:
    return nano_world_model(seed=0, dim=16, layers=1, heads=2, max_frames=WINDOW)


def pools(world_model: WorldModel, lab: Lab, material: Material, **asked: object) -> dict[str, Pool]:
    spec = FinetuneSpec.model_validate(asked)
    return {pool.name: pool for pool in pools_of(world_model, shelf_of(lab), material=material, spec=spec)}


def with_gripper(part: Episodes, *, moved_at: int | None) -> Episodes:
    """The same episodes, whose gripper closes at this step or never."""

    def commanded(clip: Clip) -> Clip:
        actions = clip.actions.clone()
        actions[:, 6] = 1.0
        if moved_at is not None:
            actions[moved_at:, 6] = 0.0
        return replace(clip, actions=actions)

    return replace(part, clips=[commanded(clip) for clip in part.clips])


def test_moves_of_the_gripper_have_their_share_of_the_windows(
    lab: Lab, material: Material, world_model: WorldModel
) -> None:
    moved = with_gripper(material.fresh, moved_at=3)
    material = replace(material, fresh=moved, older=moved)
    found = pools(world_model, lab, material, grasp_share=0.25, fresh_share=0.5, older_share=0.5)
    assert len(found["grasps"].clips) == 2 * len(moved)
    assert {len(clip.latents) for clip in found["grasps"].clips.clips} == {WINDOW + ROOM}
    assert [found[name].share for name in ("fresh", "older", "base", "grasps")] == [0.375, 0.375, 0, 0.25]


def test_it_is_a_share_of_all_windows_also_where_others_pictures_are_learned_from(
    lab: Lab, material: Material, world_model: WorldModel
) -> None:
    moved = with_gripper(material.fresh, moved_at=3)
    material = replace(material, fresh=moved, older=moved)
    asked = {"grasp_share": 0.2, "fresh_share": 0.5, "older_share": 0.25, "base_share": 0.25}
    found = pools(world_model, lab, material, **asked)
    shares = [found[name].share for name in ("fresh", "older", "base", "grasps")]
    assert shares == pytest.approx([0.4, 0.2, 0.2, 0.2])


def test_grasps_of_episodes_that_are_not_to_be_learned_from_are_not_either(
    lab: Lab, material: Material, world_model: WorldModel
) -> None:
    moved = with_gripper(material.fresh, moved_at=3)
    material = replace(material, fresh=moved, older=moved)
    found = pools(world_model, lab, material, older_share=0.0)
    assert len(found["grasps"].clips) == len(moved)


def test_where_no_gripper_moves_the_episodes_have_all_windows(
    lab: Lab, material: Material, world_model: WorldModel
) -> None:
    still = with_gripper(material.fresh, moved_at=None)
    found = pools(world_model, lab, replace(material, fresh=still, older=NONE))
    assert len(found["grasps"].clips) == 0
    assert (found["fresh"].share, found["older"].share) == (0.5, 0.5)


def test_pictures_of_others_teach_no_grasps_of_this_robot(
    lab: Lab, material: Material, world_model: WorldModel
) -> None:
    still = with_gripper(material.fresh, moved_at=None)
    moved = with_gripper(material.fresh, moved_at=3)
    material = replace(material, fresh=still, older=still, base=moved)
    assert len(pools(world_model, lab, material, base_share=0.5)["grasps"].clips) == 0


@pytest.mark.parametrize("balance", [True, False])
def test_outcomes_are_evened_where_the_spec_says_so(
    lab: Lab, material: Material, world_model: WorldModel, *, balance: bool
) -> None:
    once = material.fresh
    judged = [
        replace(clip, success=place == 0, instruction="open the drawer")
        for place, clip in enumerate([*once.clips, *once.clips])
    ]
    fresh = Episodes(rows=[*once.rows, *once.rows], clips=judged)
    found = pools(world_model, lab, replace(material, fresh=fresh), balance=balance)
    odds = [clip.odds for clip in found["fresh"].clips.clips]
    assert odds == pytest.approx(even_odds(judged) if balance else [1.0] * len(judged))
    assert (len(set(odds)) > 1) == balance


def test_a_part_of_an_episode_keeps_its_odds(lab: Lab, material: Material, world_model: WorldModel) -> None:
    moved = with_gripper(material.fresh, moved_at=3)
    judged = [replace(clip, success=place == 0) for place, clip in enumerate(moved.clips)]
    found = pools(world_model, lab, replace(material, fresh=replace(moved, clips=judged), older=NONE))
    assert [clip.odds for clip in found["grasps"].clips.clips] == pytest.approx(even_odds(judged))
    assert torch.isfinite(found["grasps"].clips.movement()).all()
