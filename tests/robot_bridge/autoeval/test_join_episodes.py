"""What one joined episode holds: every number from the recording that really knows it."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest

from robot_bridge.autoeval.join_episodes import gateway_draft, hub_draft, matched_draft
from robot_bridge.autoeval_mg import bridge_state_of_mg
from robot_bridge.conventions import achieved_actions
from robot_bridge.safety import FALLBACK
from tests.robot_bridge.autoeval.rollouts import NOON, POLICY, TASK, Rollout, a_job


def test_a_matched_episode_has_all_states_the_last_from_the_dataset() -> None:
    rollout = Rollout.random()
    draft = matched_draft(a_job(), rollout.attempt(), rollout.trajectory())
    assert draft.steps.count == rollout.steps
    np.testing.assert_array_equal(draft.steps.native_state, rollout.proprio)
    np.testing.assert_array_equal(draft.steps.native_action, rollout.action)
    assert len(draft.frames) == rollout.steps + 1
    assert [draft.frames.jpeg(t) for t in range(rollout.steps)] == list(rollout.attempt().jpegs)
    last = draft.frames.decode(rollout.steps).astype(int)
    assert np.abs(last - rollout.frames[-1]).mean() < 2.0


def test_stored_states_are_bridge_v2_and_actions_come_in_three_kinds() -> None:
    rollout, job = Rollout.random(), a_job()
    decided = (rollout.action + 0.001).astype(np.float32)
    attempt = rollout.attempt(policy_action=decided, rotation="bridge_compensated")
    steps = matched_draft(job, attempt, rollout.trajectory()).steps
    expected = np.stack([bridge_state_of_mg(row) for row in rollout.proprio])
    np.testing.assert_array_equal(steps.state, expected)
    np.testing.assert_array_equal(steps.raw_action, decided)
    np.testing.assert_array_equal(
        steps.predicted_executed, job.transform.predict(rollout.action, rollout.proprio)
    )
    np.testing.assert_array_equal(steps.achieved_action, achieved_actions(expected))
    assert steps.executed_action is None
    assert (steps.qpos, steps.effort_mA, steps.target_pose) == (None, None, None)


def test_the_prediction_clips_as_autoeval_does() -> None:
    rollout = Rollout.random()
    rollout.action[:, :3] = 0.5
    steps = matched_draft(a_job(), rollout.attempt(), rollout.trajectory()).steps
    assert steps.predicted_executed is not None
    assert np.abs(steps.predicted_executed[:, :3]).max() <= 0.02 + 1e-6


def test_the_time_of_the_last_observation_is_as_long_after_its_action_as_usual() -> None:
    rollout = Rollout.random()
    draft = matched_draft(a_job(), rollout.attempt(), rollout.trajectory())
    np.testing.assert_allclose(np.diff(draft.steps.t_obs), 0.5)
    np.testing.assert_allclose(draft.steps.t_cmd - draft.steps.t_obs[:-1], 0.1)
    assert draft.header.metadata["last_t_obs"] == "estimated"


def test_of_a_single_step_the_period_of_the_robot_is_taken() -> None:
    rollout = Rollout.random(1)
    steps = matched_draft(a_job(control_hz=4.0), rollout.attempt(), rollout.trajectory()).steps
    assert steps.t_obs[1] - steps.t_cmd[0] == pytest.approx(0.25)


def test_steps_in_which_the_policy_decided_nothing_are_flagged() -> None:
    rollout = Rollout.random()
    attempt = rollout.attempt(fallback=np.array([False, True, False, True]))
    steps = matched_draft(a_job(), attempt, rollout.trajectory()).steps
    assert steps.flags.tolist() == [0, FALLBACK, 0, FALLBACK]


@pytest.mark.parametrize("rotation", ["raw", "bridge_compensated"])
def test_the_header_says_convention_transform_policy_and_origin(rotation: str) -> None:
    rollout, job = Rollout.random(), a_job()
    header = matched_draft(job, rollout.attempt(5, rotation=rotation), rollout.trajectory(3)).header
    assert (header.convention.native, header.convention.rotation) == ("autoeval_mg", rotation)
    assert header.convention.state == "bridge_v2"
    assert header.transform_id == job.transform.id
    assert "eef_clip=0.02" in header.transform_id
    assert (header.mode, header.policy, header.task_id) == ("autoeval", POLICY, TASK.task_id)
    assert (header.outcome, header.station_id) == ("completed", "autoeval-widowx_drawer")
    assert header.metadata == {
        "autoeval_job": job.job_id,
        "attempt": "5",
        "trajectory": "3",
        "ended_by": "reset",
        "join": "matched",
        "provenance": "verified",
        "last_t_obs": "estimated",
        "need_human_intervention": "0",
        "num_eval_retries": "0",
        "eval_rollout_time": "20.5",
        "limits": job.limits,
    }
    assert json.loads(job.limits) == {
        "box_low": list(TASK.box_low),
        "box_high": list(TASK.box_high),
        "step_xyz_max": 0.02,
    }


@pytest.mark.parametrize(("success", "answer"), [(True, "yes"), (False, "not yes")])
def test_the_label_is_the_classifiers(success: bool, answer: str) -> None:
    rollout = Rollout.random()
    header = matched_draft(a_job(), rollout.attempt(), rollout.trajectory(success=success)).header
    (label,) = header.labels
    assert (label.success, label.source, label.judge, label.answer) == (
        success,
        "classifier",
        "autoeval",
        answer,
    )
    assert label.at == header.ended_at


def test_without_a_verdict_there_is_no_label() -> None:
    rollout = Rollout.random()
    assert matched_draft(a_job(), rollout.attempt(), rollout.trajectory(success=None)).header.labels == ()


def test_a_fact_with_a_forged_name_or_a_long_text_does_not_reach_the_manifest() -> None:
    rollout = Rollout.random()
    facts = {"provenance": "verified by me", "join": "x", "eval_rollout_time": "y" * 900, "autoeval_job": "z"}
    metadata = matched_draft(a_job(), rollout.attempt(), rollout.trajectory(facts=facts)).header.metadata
    assert (metadata["provenance"], metadata["join"]) == ("verified", "matched")
    assert metadata["autoeval_job"] == a_job().job_id
    assert len(metadata["eval_rollout_time"]) == 200


@pytest.mark.parametrize(("steps", "outcome"), [(2, "aborted_hw"), (3, "aborted_hw"), (4, "completed")])
def test_the_gateway_alone_knows_one_action_fewer_than_it_sent(steps: int, outcome: str) -> None:
    rollout = Rollout.random(steps)
    draft = gateway_draft(a_job(), rollout.attempt(), join="retry", provenance="by_job")
    assert draft.steps.count == steps - 1
    np.testing.assert_array_equal(draft.steps.native_action, rollout.action[:-1])
    np.testing.assert_array_equal(draft.steps.native_state, rollout.proprio[:-1])
    assert len(draft.frames) == steps
    assert (draft.header.outcome, draft.header.labels) == (outcome, ())
    assert draft.header.metadata["join"] == "retry"


def test_the_dataset_alone_knows_actions_from_the_second_on() -> None:
    rollout = Rollout.random()
    draft = hub_draft(a_job(), rollout.trajectory(2), at=NOON, policy=POLICY)
    assert draft.steps.count == rollout.steps - 1
    np.testing.assert_array_equal(draft.steps.native_action, rollout.action[1:])
    np.testing.assert_array_equal(draft.steps.native_state, rollout.proprio[1:])
    assert len(draft.frames) == rollout.steps
    assert draft.header.metadata["source"] == "hub_only"
    assert draft.header.metadata["times"] == "nominal"
    assert draft.header.ended_at - draft.header.started_at == timedelta(seconds=0.6)


def test_ids_depend_on_job_kind_and_index_only() -> None:
    job = a_job()
    assert job.episode_id("attempt", 1) == a_job(success_rate=None, max_steps=9).episode_id("attempt", 1)
    others = {
        job.episode_id("attempt", 1),
        job.episode_id("attempt", 2),
        job.episode_id("hub", 1),
        a_job(job_id="another").episode_id("attempt", 1),
    }
    assert len(others) == 4
