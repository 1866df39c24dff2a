"""Imagined arms are confined as those of the episodes that they begin at were."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from daemon.learning.confines import ConfinedArms
from daemon.learning.rollout import Starts
from daemon.phases import closed_loop, collect, finetune_world_model, update_policy
from daemon.phases.clips import clip_of
from daemon.phases.confining import confines_of, told_of
from robot_bridge.conventions import Pose
from robot_bridge.episode import LIMITS_KEY, Episode
from robot_bridge.safety import Limits, SafetyPipeline
from storage import episodes, replay
from tests.daemon.phases.conftest import Lab


def recorded(lab: Lab) -> list[Episode]:
    with lab.database.read() as session:
        rows = replay.select(session, replay.EpisodeQuery(limit=100))
        return [episodes.load(session, lab.blobs, row.id) for row in rows]


def saying(episode: Episode, limits: str | None) -> Episode:
    """The same episode with other limits in its manifest."""
    kept = {name: value for name, value in episode.manifest.metadata.items() if name != LIMITS_KEY}
    metadata = kept if limits is None else {**kept, LIMITS_KEY: limits}
    return replace(episode, manifest=episode.manifest.model_copy(update={"metadata": metadata}))


def pressed(episode: Episode) -> Episode:
    """The same episode as if its policy had pressed the arm down all along, and its station had let it be."""
    limits = Limits(**json.loads(episode.manifest.metadata[LIMITS_KEY]))
    steps, pipeline = episode.steps, SafetyPipeline(limits)
    assert steps.target_pose is not None
    target = Pose(steps.target_pose[0, :3].astype(float) - steps.motion[0, :3], np.eye(3))
    raw, executed, targets = np.zeros_like(steps.raw_action), [], []
    raw[:, 2] = -limits.step_xyz_max * 1.5
    for action in raw:
        command = pipeline.apply(target, action)
        target = command.target
        executed.append(command.executed)
        targets.append(np.concatenate([target.position, np.zeros(4)]).astype(np.float32))
    assert pipeline.counts["xyz"] == len(raw)
    assert pipeline.counts["box"] > 0
    return replace(
        episode,
        steps=replace(
            steps, raw_action=raw, executed_action=np.stack(executed), target_pose=np.stack(targets)
        ),
    )


@pytest.mark.parametrize("at", [0, 3])
def test_what_a_policy_asked_for_becomes_what_its_robot_executed(lab: Lab, at: int) -> None:
    lab.do("collect", collect.run)
    episode = pressed(recorded(lab)[0])
    confines = confines_of(episode)
    assert confines is not None
    there = confines.after(told_of(episode, confines)[:at])
    found = ConfinedArms(there).let_through(torch.from_numpy(episode.steps.raw_action[None, at:]))
    np.testing.assert_allclose(found[0].numpy(), episode.steps.motion[at:], atol=1e-6)


def test_a_world_model_is_told_what_was_asked_for_where_an_arm_felt_resistance(lab: Lab) -> None:
    """What presses is turned round by motors, which imagination has none of; box and step it does have."""
    lab.do("collect", collect.run)
    episode = pressed(recorded(lab)[0])
    ran = episode.steps.motion.copy()
    ran[-1, :3] = 0.01  # the guard turned the last one round
    eased = replace(episode, steps=replace(episode.steps, executed_action=ran))
    frames = np.zeros((len(ran) + 1, 3, 8, 8), dtype=np.uint8)
    for told, of in (
        (clip_of(episode, frames, success=True), episode),
        (clip_of(eased, frames, success=True), eased),
    ):
        np.testing.assert_allclose(told.actions.numpy(), of.steps.motion)
        np.testing.assert_allclose(told.told.numpy(), episode.steps.motion, atol=1e-6)
    unlimited = clip_of(saying(eased, None), frames, success=True)
    assert torch.equal(unlimited.told, torch.from_numpy(episode.steps.raw_action)), "as its rollouts are told"


def test_every_rollout_of_an_update_begins_confined(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.do("collect", collect.run)
    lab.do("finetune_world_model", finetune_world_model.run)
    begun: list[Starts] = []

    def watched(policy: Any, env: Any, starts: Starts, **how: Any) -> Any:
        begun.append(starts)
        return rollout(policy, env, starts, **how)

    rollout = closed_loop.rollout
    monkeypatch.setattr("daemon.learning.policy_update.rollout", watched)
    lab.do("update_policy", update_policy.run)
    assert begun
    for starts in begun:
        assert starts.confines is not None
        assert bool(starts.confines.low.isfinite().all())


def test_a_policy_is_confined_where_it_acts_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.do("collect", collect.run)
    begun: list[Starts] = []
    rollout = closed_loop.rollout

    def watched(policy: Any, env: Any, starts: Starts, **how: Any) -> Any:
        begun.append(starts)
        return rollout(policy, env, starts, **how)

    monkeypatch.setattr(closed_loop, "rollout", watched)
    lab.do("finetune_world_model", finetune_world_model.run)
    assert begun
    assert all(starts.confines is not None for starts in begun)


def test_an_episode_that_names_no_limits_confines_nothing(lab: Lab) -> None:
    lab.do("collect", collect.run)
    assert confines_of(saying(recorded(lab)[0], None)) is None


@pytest.mark.parametrize(
    "limits", ["{", "[]", "{}", json.dumps({"box_low": [1, 1, 1], "box_high": [0, 0, 0]})]
)
def test_limits_that_cannot_be_read_are_told_and_confine_nothing(
    lab: Lab, caplog: pytest.LogCaptureFixture, limits: str
) -> None:
    caplog.set_level(logging.WARNING)
    lab.do("collect", collect.run)
    episode = saying(recorded(lab)[0], limits)
    assert confines_of(episode) is None
    assert f"limits not readable episode={episode.manifest.episode_id}" in caplog.text


def test_where_targets_are_not_told_the_measured_place_counts(lab: Lab) -> None:
    lab.do("collect", collect.run)
    episode = recorded(lab)[0]
    limits = json.loads(episode.manifest.metadata[LIMITS_KEY])
    confines = confines_of(replace(episode, steps=replace(episode.steps, target_pose=None)))
    assert confines is not None
    expected = torch.tensor(limits["box_low"]) - torch.from_numpy(episode.steps.state[0, :3].copy())
    assert torch.allclose(confines.low[0], expected.float(), atol=1e-6)
