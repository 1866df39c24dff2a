"""The gate, the trust meter and the training that goes on after a crash, on what was really collected."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from daemon.learning.drift import Drift
from daemon.learning.gate import Compared, decide
from daemon.learning.reward.judge import JudgeExhausted
from daemon.learning.trust import OUTCOMES
from daemon.phases import collect, finetune_world_model, update_policy
from daemon.phases.checkpoints import current
from daemon.phases.trusting import drift_document, gate_document
from storage import checkpoints, replay, trust_reports
from storage.tables import TrustReportRow
from tests.daemon.phases.conftest import SMALL, Crash, Lab, crashing, wall_clock

HARMLESS = {**SMALL["world_model"], "updates": 30, "learning_rate": 3e-3}
USELESS = {**SMALL["world_model"], "updates": 0}  # as good as before is not better


def finetuned(lab: Lab, **changes: Any) -> Mapping[str, Any]:
    """Collect and finetune once, with these parts of the small spec changed."""
    lab.request({**SMALL, **changes})
    lab.do("collect", collect.run)
    return lab.do("finetune_world_model", finetune_world_model.run)


def goes_on(lab: Lab) -> str:
    """The world model that the next iteration would start from."""
    return current(lab.database, lab.blobs, "world_model", lineage="main", preset="nano", now=wall_clock()).id


def reports(lab: Lab, checkpoint_id: str) -> list[TrustReportRow]:
    with lab.database.read() as session:
        return trust_reports.of_checkpoint(session, checkpoint_id)


def test_a_candidate_that_helps_replaces_the_old_world_model(lab: Lab) -> None:
    outcome = finetuned(lab, world_model=HARMLESS)
    assert outcome["gate"]["accepted"] is True
    assert outcome["rejected"] == {}
    assert goes_on(lab) == outcome["made"]["world_model"]
    (report,) = reports(lab, outcome["made"]["world_model"])
    assert report.verdict == "accepted"
    assert report.report["gate"]["fresh"]["after"] < report.report["gate"]["fresh"]["before"]


def test_one_that_does_not_help_is_kept_as_rejected_and_the_iteration_goes_on_with_the_old_one(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        outcome = finetuned(lab, world_model=USELESS)
    rejected = outcome["rejected"]["world_model"]
    assert "world_model" not in outcome["made"]
    assert "not shown to be better" in outcome["gate"]["reasons"][0]
    assert f"world model rejected iteration=2 checkpoint={rejected}" in caplog.text
    with lab.database.read() as session:
        assert checkpoints.get(session, rejected).parent_id == outcome["read"]["world_model"]
    assert [row.verdict for row in reports(lab, rejected)] == ["rejected"]
    assert [row.verdict for row in reports(lab, outcome["read"]["world_model"])] == ["measured"]
    updated = lab.do("update_policy", update_policy.run)
    assert updated["read"]["world_model"] == outcome["read"]["world_model"]
    assert goes_on(lab) == outcome["read"]["world_model"]


def test_older_held_out_episodes_guard_what_was_learned_before(lab: Lab) -> None:
    first = finetuned(lab, world_model=HARMLESS)
    assert first["gate"]["older"] is None
    second = finetuned(lab, world_model=HARMLESS, seed=5)
    assert second["gate"]["older"]["before"] > 0
    assert len(second["gate"]["reasons"]) == 2


def test_the_trust_report_tells_drift_outcomes_sensitivity_and_horizon(lab: Lab) -> None:
    outcome = finetuned(lab, world_model=HARMLESS)
    trust = outcome["trust"]
    assert set(trust["outcomes"]) == {"open_drawer", "close_drawer"}
    assert (
        sum(
            trust["overall"][name] for name in ("hits", "false_hopes", "missed", "rightly_failed", "declined")
        )
        == 2
    )
    for measure in ("pixels", "psnr", "ssim", "latents", "still"):
        assert list(trust["drift"][measure]) == [str(step) for step in range(1, 11)]
    (row,) = reports(lab, outcome["made"]["world_model"])
    assert (row.horizon, row.sensitivity) == (trust["horizon"], trust["action_sensitivity"])
    assert (row.agreement, row.optimism) == (trust["overall"]["agreement"], trust["overall"]["optimism"])
    assert row.episodes == 2
    assert row.report["drift"] == trust["drift"]


@pytest.mark.parametrize(("limit", "steps"), [(1e-9, 1), (1e9, 10)])
def test_the_policy_imagines_only_as_far_as_the_world_model_is_believed(
    lab: Lab, limit: float, steps: int
) -> None:
    """A rollout is at least one chunk of five actions; an episode has ten."""
    finetuned(lab, world_model=HARMLESS, trust={"max_latent_error": limit})
    outcome = lab.do("update_policy", update_policy.run)
    assert outcome["imagined_steps"] == steps
    updated = any(f"update 1 of {SMALL['policy']['updates']}" in text for _, text in lab.told)
    assert updated is (steps == 10)
    if not updated:
        assert (outcome["made"], outcome["updates"]) == ({}, 0)
        assert outcome["no_update"] == (
            "the world model is trusted for 1 steps, and the policy decides on 5 at once"
        )


def test_how_older_held_out_episodes_end_is_asked_too(lab: Lab) -> None:
    first = finetuned(lab, world_model=HARMLESS)
    second = finetuned(lab, world_model=HARMLESS, seed=5)
    counts = [sum(one["trust"]["overall"][name] for name in OUTCOMES) for one in (first, second)]
    assert counts == [2, 4]
    (row,) = reports(lab, second["made"].get("world_model") or second["read"]["world_model"])[:1]
    assert row.episodes == 2, "drift is of this iteration's"


def test_a_judge_whose_budget_is_spent_fails_no_finetuning(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spent:
        frames = 3

        def judge(self, frames: Any, instructions: Any) -> Any:
            raise JudgeExhausted("spent")

    monkeypatch.setattr(finetune_world_model, "judge_for", lambda *_, **__: Spent())
    outcome = finetuned(lab, world_model=HARMLESS)
    assert outcome["judge_exhausted"] is True
    assert outcome["trust"]["overall"]["declined"] == 2
    assert {own["declined"] for own in outcome["judge_audit"].values()} == {1}
    assert outcome["trust"]["horizon"] >= 1


@pytest.mark.parametrize(("share", "learned"), [(0.0, 2), (0.5, 3)])
def test_clips_from_outside_teach_only_an_iteration_that_asks_for_them(
    lab: Lab, share: float, learned: int
) -> None:
    """Another robot's clips must not slip under the policy of this one."""
    lab.request({**SMALL, "world_model": {**HARMLESS, "base_share": share}})
    lab.do("collect", collect.run)
    with lab.database.write() as session:
        foreign = next(row for row in replay.select(session, replay.EpisodeQuery()) if not row.held_out)
        foreign.origin, foreign.iteration_id = "imported", None
        foreign_id = foreign.id
    lab.request({**SMALL, "seed": 5, "world_model": {**HARMLESS, "older_share": 0.0, "base_share": share}})
    lab.do("collect", collect.run)
    outcome = lab.do("finetune_world_model", finetune_world_model.run)
    made = {**outcome["rejected"], **outcome["made"]}["world_model"]
    with lab.database.read() as session:
        found = checkpoints.episode_ids(session, made)
    assert len(found) == learned
    assert (foreign_id in found) is (share > 0)


def test_a_training_that_was_killed_goes_on_where_it_was(lab: Lab) -> None:
    lab.request({**SMALL, "world_model": {**HARMLESS, "updates": 6}})
    lab.do("collect", collect.run)
    context = lab.context("finetune_world_model")
    with pytest.raises(Crash):
        finetune_world_model.run(crashing(context, at="world model, update 3"))
    before = [moment["loss"] for moment in lab.moments if "loss" in moment]
    lab.moments.clear()
    finetune_world_model.run(context)
    after = [(moment["update"], moment["loss"]) for moment in lab.moments if "loss" in moment]
    assert len(before) == 4
    assert [update for update, _ in after] == [4, 5], "updates 0 to 3 are not made again"
    assert list((lab.folder / "resume").iterdir()) == [], "nothing is left to go on from"


def test_a_state_that_cannot_be_gone_on_with_is_left_and_the_training_begins_anew(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.request({**SMALL, "world_model": {**HARMLESS, "updates": 6}})
    lab.do("collect", collect.run)
    context = lab.context("finetune_world_model")
    with pytest.raises(Crash):
        finetune_world_model.run(crashing(context, at="world model, update 3"))
    (state,) = (lab.folder / "resume").iterdir()
    state.write_bytes(state.read_bytes()[:-50])
    lab.moments.clear()
    with caplog.at_level(logging.WARNING):
        finetune_world_model.run(context)
    assert "training begins anew" in caplog.text
    assert [moment["update"] for moment in lab.moments if "loss" in moment] == list(range(6))


def test_numbers_of_an_imagination_that_ran_away_are_told_as_unknown() -> None:
    gate = decide(Compared(before=(0.2,), after=(float("nan"),)), None, older_margin=0.1)
    told = gate_document(gate)
    assert told["fresh"] == {"before": 0.2, "after": None, "episodes": 1, "chance": None}
    assert (told["accepted"], told["older"]) == (False, None)
    curve = {1: 0.5, 2: float("inf")}
    curves = dict.fromkeys(("pixels", "psnr", "ssim", "latents", "still"), curve)
    drift = Drift(**curves, episodes={1: 1, 2: 1}, latents_by_episode=(float("inf"),))
    assert drift_document(drift)["latents"] == {"1": 0.5, "2": None}
    json.dumps([told, drift_document(drift)], allow_nan=False)


@pytest.mark.parametrize("at", ["new world model, imagining", "measuring how far"])
def test_a_phase_that_dies_while_measuring_does_not_train_again(lab: Lab, at: str) -> None:
    lab.request({**SMALL, "world_model": {**HARMLESS, "updates": 6}})
    lab.do("collect", collect.run)
    context = lab.context("finetune_world_model")
    with pytest.raises(Crash):
        finetune_world_model.run(crashing(context, at=at))
    lab.moments.clear()
    finetune_world_model.run(context)
    assert [moment for moment in lab.moments if "loss" in moment] == []
