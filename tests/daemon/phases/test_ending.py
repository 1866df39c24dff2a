"""A judge that its audit calls surely too wrong at a task does not end that task's real episodes early."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from daemon.learning.trust import Outcomes
from daemon.phases import collect
from daemon.phases.arms import champion
from daemon.phases.auditing import with_interval
from daemon.phases.checkpoints import Made, keep, newest
from daemon.phases.context import PhaseContext
from daemon.phases.ending import ending, full_length
from daemon.phases.referee import roll_back
from storage import episodes, replay, trials
from storage.episodes import Provenance
from storage.tables import CheckpointRow, EpisodeRow
from tests.daemon.phases.conftest import SMALL, Lab, a_coin, keep_checkpoint, make_policy, wall_clock
from tests.robot_bridge.toy_driver import TASKS
from tests.storage.conftest import build_episode, some_label

STOPPING = {**SMALL, "stop_on_success": True}
WHY = "the judge on real ends agrees with the label in 8 of 20, 75% is asked"


def audit(right: int, wrong: int) -> dict[str, Any]:
    return with_interval(Outcomes(hits=right, false_hopes=wrong, missed=0, rightly_failed=0, declined=0))


def audited_judge(lab: Lab, audits: dict[str, Any], **spec: Any) -> str:
    """The judge that a finetuning of a fresh iteration made and audited, always sure of success; its id."""
    lab.request({**STOPPING, "seed": len(lab.told), **spec})
    lab.told.append((0.0, "one more judge"))
    context = lab.context("finetune_world_model")
    judge = a_coin(tuple(TASKS.values()))
    with torch.no_grad():
        judge.model.decide[-1].bias += 1e3
    row = keep(context, judge, Made(kind="judge", parent=newest(context, "judge"), card={}))
    lab.end(context, {"made": {"judge": row.id}, "judge_audit": audits})
    return row.id


def asked(lab: Lab, **spec: Any) -> PhaseContext:
    lab.request({**STOPPING, "seed": len(lab.told), **spec})
    return lab.context("collect")


@pytest.mark.parametrize(
    ("right", "wrong", "kept"),
    [
        (8, 12, True),  # surely below three quarters
        (20, 0, False),
        (2, 1, False),  # few say little
        (0, 0, False),  # none says nothing
        (12, 8, False),  # 60 %, and an upper bound above 75 %
    ],
)
def test_a_task_at_which_the_judge_is_surely_too_wrong_keeps_its_full_length(
    lab: Lab, right: int, wrong: int, kept: bool
) -> None:
    judge = audited_judge(lab, {"open_drawer": audit(right, wrong), "close_drawer": audit(20, 0)})
    found = ending(asked(lab))
    assert found is not None
    assert found.judge.id == judge
    assert found.full_length == ({"open_drawer": WHY} if kept else {})


def test_the_bound_is_that_of_the_iteration_that_asks(lab: Lab) -> None:
    audited_judge(lab, {"open_drawer": audit(8, 12)})
    assert full_length(asked(lab, judge={"min_agreement": 0.5})) == {}
    assert full_length(asked(lab)) == {"open_drawer": WHY}


def test_without_early_ends_nothing_is_to_be_kept_from_them(lab: Lab) -> None:
    audited_judge(lab, {"open_drawer": audit(8, 12)})
    context = asked(lab, stop_on_success=False)
    assert (ending(context), full_length(context)) == (None, {})


def test_a_judge_that_was_brought_in_since_was_not_audited(lab: Lab) -> None:
    audited_judge(lab, {"open_drawer": audit(8, 12)})
    a_coin(tuple(TASKS.values())).save(file := lab.folder / "judge.safetensors", {})
    keep_checkpoint(lab.database, lab.blobs, "judge", file)
    assert full_length(asked(lab)) == {}


def test_an_audit_of_another_kind_of_judge_says_nothing_of_the_one_that_the_arm_waits_for(lab: Lab) -> None:
    audited_judge(
        lab, {"open_drawer": audit(8, 12)}, judge={"kind": "vlm_http"}, phases=["finetune_world_model"]
    )
    assert full_length(asked(lab)) == {}


def test_each_lineage_goes_by_the_audit_of_its_own_judge(lab: Lab) -> None:
    audited_judge(lab, {"open_drawer": audit(8, 12)}, lineage="b")
    assert full_length(asked(lab, lineage="b")) == {"open_drawer": WHY}
    assert full_length(asked(lab)) == {}


def test_on_the_robot_that_task_is_acted_to_the_end_and_the_others_are_not(lab: Lab) -> None:
    judge = audited_judge(lab, {"open_drawer": audit(8, 12)})
    lab.request(STOPPING)
    outcome = lab.do("collect", collect.run)
    assert outcome["full_length"] == {"open_drawer": WHY}
    with lab.database.read() as session:
        query = replay.EpisodeQuery(iteration_ids=(lab.iteration_id,), valid_for_world_model=None)
        rows = replay.select(session, query)
        found = {row.task_id: (row.steps, manifest_of(lab, row).get("ended_by")) for row in rows}
    assert found == {"open_drawer": (10, None), "close_drawer": (5, judge)}


def manifest_of(lab: Lab, row: EpisodeRow) -> dict[str, str]:
    with lab.database.read() as session:
        return dict(episodes.load(session, lab.blobs, row.id).manifest.metadata)


def acted(lab: Lab, row: CheckpointRow, count: tuple[int, int]) -> None:
    """Judged episodes of a policy in this iteration."""
    with lab.database.write() as session:
        for index in range(count[1]):
            episode = build_episode(
                100 * row.number + index, task_id="open_drawer", labels=(some_label(index < count[0]),)
            )
            origin = Provenance(origin="collect", iteration_id=lab.iteration_id, checkpoint_id=row.id)
            episodes.commit(session, lab.blobs, episode, provenance=origin, now=wall_clock())


@pytest.mark.parametrize(
    ("before", "now", "goes_back"),
    [(False, False, True), (True, True, True), (True, False, False), (False, True, False)],
)
def test_a_champion_is_not_rolled_back_because_episodes_end_otherwise_now(
    lab: Lab, before: bool, now: bool, goes_back: bool
) -> None:
    """The one before did well and the champion badly; that says something where both ended alike."""
    first = asked(lab, stop_on_success=before)
    old, new = champion(first), make_policy(lab)
    lab.iteration_id = first.iteration_id
    acted(lab, old, (12, 12))
    crowned = trials.NewTrial(
        iteration_id=first.iteration_id,
        champion_id=old.id,
        candidate_id=new,
        decision="promoted",
        evidence={},
    )
    with lab.database.write() as session:
        trials.save(session, crowned, now=wall_clock())
    context = asked(lab, stop_on_success=now)
    acted(lab, champion(context), (2, 12))
    assert (roll_back(context, champion(context)) is not None) is goes_back
