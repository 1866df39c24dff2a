"""Phases that are skipped or were not asked for: what the others make of what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.errors import NothingCollected
from daemon.phases import collect, finetune_world_model, update_policy
from daemon.phases.material import gather
from storage import checkpoints, replay, steering
from storage.errors import LeaseLost
from tests.daemon.phases.conftest import SMALL, Crash, Lab, crashing, make_policy, wall_clock
from tests.daemon.phases.test_learning_phases import shelf_of


def skip(lab: Lab, phase: str) -> None:
    with lab.database.write() as session:
        steering.skip(session, lab.iteration_id, phase=phase, now=wall_clock())


def newest_of(lab: Lab, kind: str) -> str:
    with lab.database.read() as session:
        row = checkpoints.latest(session, kind)
    assert row is not None
    return row.id


def episodes_of(lab: Lab, **query: Any) -> set[str]:
    with lab.database.read() as session:
        return {row.id for row in replay.select(session, replay.EpisodeQuery(**query))}


@pytest.fixture
def collected(lab: Lab) -> Lab:
    """Episodes of an earlier iteration; the one that is asked for now has none."""
    lab.do("collect", collect.run)
    lab.request({**SMALL, "seed": 4})
    return lab


def test_without_finetuning_the_policy_learns_in_the_current_world_model(lab: Lab) -> None:
    lab.do("collect", collect.run)
    current = {kind: newest_of(lab, kind) for kind in ("world_model", "judge")}
    skip(lab, "finetune_world_model")
    outcome = lab.do("update_policy", update_policy.run)
    assert {kind: outcome["read"][kind] for kind in current} == current
    assert outcome["imagined_steps"] == SMALL["steps"], "nothing was measured that could shorten it"
    assert outcome["tasks_left_out"] == {}
    assert "policy" in outcome["made"]


def test_what_a_skipped_finetuning_had_kept_already_is_not_gone_on_from(lab: Lab) -> None:
    lab.do("collect", collect.run)
    current = newest_of(lab, "world_model")
    context = lab.context("finetune_world_model")
    finetune_world_model.run(context)  # everything is kept, but its outcome is not recorded
    assert newest_of(lab, "world_model") != current
    skip(lab, "finetune_world_model")
    with pytest.raises(LeaseLost):
        lab.end(context, {})
    outcome = lab.do("update_policy", update_policy.run)
    assert outcome["read"]["world_model"] == current


def test_without_an_update_the_next_iteration_has_nobody_to_try(lab: Lab) -> None:
    acted = lab.do("collect", collect.run)["acted"]
    skip(lab, "update_policy")
    lab.request({**SMALL, "seed": 4})
    again = lab.do("collect", collect.run)
    assert again["acted"] == acted
    assert set(acted) == {"champion"}
    assert again["trial"] is None


def test_collecting_alone_still_tries_a_candidate(lab: Lab) -> None:
    candidate = make_policy(lab)
    lab.request({**SMALL, "phases": ["collect"], "collect": {**SMALL["collect"], "temperature": 0.0}})
    assert lab.do("collect", collect.run)["acted"]["candidate"] == candidate


def test_without_collecting_the_world_model_learns_from_earlier_episodes(collected: Lab) -> None:
    skip(collected, "collect")
    outcome = collected.do("finetune_world_model", finetune_world_model.run)
    assert (outcome["fresh_episodes"], outcome["held_out_episodes"]) == (0, 2)
    with collected.database.read() as session:
        learned = set(checkpoints.episode_ids(session, outcome_candidate(outcome)))
    assert learned == episodes_of(collected, held_out=False)
    assert set(outcome["film_strips"]) == {"open_drawer", "close_drawer"}


def outcome_candidate(outcome: dict[str, Any]) -> str:
    """The world model that was made, whatever the gate said of it."""
    found: dict[str, str] = {**outcome["made"], **outcome["rejected"]}
    return found["world_model"]


def test_without_collecting_the_policy_starts_where_earlier_episodes_began(collected: Lab) -> None:
    collected.request({**SMALL, "seed": 5, "tasks": ["open_drawer"], "phases": ["update_policy"]})
    outcome = collected.do("update_policy", update_policy.run)
    assert set(outcome["imagined_success"]) == {"open_drawer"}, "only tasks of the spec"


def test_a_collect_phase_that_was_skipped_half_way_leaves_what_it_has_to_be_learned_from(
    collected: Lab,
) -> None:
    earlier = episodes_of(collected, held_out=False)
    with pytest.raises(Crash):
        collect.run(crashing(collected.context("collect"), at="episode 3"))
    skip(collected, "collect")
    material = gather(collected.context("finetune_world_model"), shelf_of(collected), size=64)
    own = episodes_of(collected, iteration_ids=(collected.iteration_id,), held_out=False)
    assert own
    assert {row.id for row in material.fresh.rows} == own
    assert {row.id for row in material.older.rows} == earlier
    assert len(material.held_out) > 0


@pytest.mark.parametrize("how", ["skipped", "not asked for"])
def test_learning_says_what_is_missing_where_nothing_was_ever_collected(lab: Lab, how: str) -> None:
    lab.request({**SMALL, "phases": ["finetune_world_model", "update_policy"]} if how != "skipped" else SMALL)
    if how == "skipped":
        skip(lab, "collect")
    with pytest.raises(NothingCollected, match="an episode to train on, of this iteration or an earlier one"):
        finetune_world_model.run(lab.context("finetune_world_model"))
    with pytest.raises(NothingCollected, match="an episode to start from"):
        update_policy.run(lab.context("update_policy"))


def test_an_iteration_that_did_collect_does_not_borrow_held_out_episodes(collected: Lab) -> None:
    collected.request({**SMALL, "seed": 6, "collect": {"episodes_per_task": 1, "held_out_every": 5}})
    collected.do("collect", collect.run)
    with pytest.raises(NothingCollected, match="that is held out, of this iteration,"):
        gather(collected.context("finetune_world_model"), shelf_of(collected), size=64)
