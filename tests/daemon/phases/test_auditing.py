"""The judge audit on real held-out ends, and tasks that an update leaves out because of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from daemon.learning.batch import Clip
from daemon.learning.reward.judge import Verdicts
from daemon.learning.trust import Outcomes, counted
from daemon.phases import collect, finetune_world_model, update_policy
from daemon.phases.auditing import Measured, audit_judge, distrusted, last_measured, with_interval
from daemon.phases.context import PhaseContext
from daemon.phases.first_audit import first_audit
from daemon.phases.material import Episodes
from daemon.spec import parse_spec
from daemon.statistics import wilson_interval
from storage import episodes, labels, phase_runs, replay
from storage.episodes import Provenance
from tests.daemon.judges.emulator import Endpoint, running
from tests.daemon.phases.conftest import SMALL, Lab, a_coin, wall_clock
from tests.daemon.phases.test_judges import asking
from tests.robot_bridge.toy_driver import TASKS
from tests.storage.conftest import build_episode, some_label

USED = {"judge": "j", "world_model": "w", "policy": "p"}  # the checkpoints of an update


class BrightJudge:
    """Success: the last picture is bright. Declines where it is grey."""

    frames = 2

    def judge(self, frames: torch.Tensor, instructions: Sequence[str]) -> Verdicts:
        light = frames[:, -1].float().mean(dim=(1, 2, 3))
        return Verdicts(success=light > 128, known=(light - 128).abs() > 40, probability=light / 255)


def an_episode(lab: Lab, number: int, *, task: str, light: int, success: bool | None) -> tuple[Any, Clip]:
    """A stored, labelled episode, and a clip of it that ends so bright."""
    stored = build_episode(number, task_id=task, labels=(some_label(success),))
    origin = Provenance(origin="collect", iteration_id=lab.iteration_id, held_out=True)
    with lab.database.write() as session:
        row, _ = episodes.commit(session, lab.blobs, stored, provenance=origin, now=wall_clock())
    frames = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    frames[-1] = light
    clip = Clip(
        frames=frames, actions=torch.zeros(3, 7), instruction=task, episode_id=row.id, success=success
    )
    return row, clip


def some_episodes(lab: Lab, *made: tuple[str, int, bool | None]) -> Episodes:
    found = [
        an_episode(lab, 500 + place, task=task, light=light, success=success)
        for place, (task, light, success) in enumerate(made)
    ]
    return Episodes(rows=[row for row, _ in found], clips=[clip for _, clip in found])


def test_verdicts_on_real_ends_are_counted_against_the_label_task_by_task(lab: Lab) -> None:
    held_out = some_episodes(
        lab,
        ("open_drawer", 255, True), ("open_drawer", 255, False), ("open_drawer", 0, False),
        ("open_drawer", 128, True), ("close_drawer", 0, True), ("close_drawer", 255, None),
    )  # fmt: skip
    audit = audit_judge(lab.context("finetune_world_model"), BrightJudge(), (held_out,))
    opened = audit["open_drawer"]
    names = ("hits", "false_hopes", "missed", "rightly_failed", "declined")
    assert [opened[name] for name in names] == [1, 1, 0, 1, 1]
    interval = wilson_interval(2, 3)
    assert opened["agreement"] == pytest.approx(2 / 3)
    assert (opened["agreement_low"], opened["agreement_high"]) == (interval.low, interval.high)
    assert [audit["close_drawer"][name] for name in names] == [0, 0, 1, 0, 0], "no label, no count"


def test_agreement_is_told_for_every_source_of_labels(lab: Lab) -> None:
    held_out = some_episodes(lab, ("open_drawer", 255, True), ("open_drawer", 0, True))
    with lab.database.write() as session:
        for row, success in zip(held_out.rows, (False, False), strict=True):
            verdict = labels.Verdict(success=success, source="human", at=wall_clock())
            labels.append(session, row.id, verdict, now=wall_clock())
    audit = audit_judge(lab.context("finetune_world_model"), BrightJudge(), (held_out,))
    assert audit["open_drawer"]["by_source"] == {
        "sim_predicate": {"agreed": 1, "judged": 2},
        "human": {"agreed": 1, "judged": 2},
    }


def test_without_held_out_episodes_there_is_nothing_to_audit(lab: Lab) -> None:
    nobody = Episodes(rows=(), clips=())
    assert audit_judge(lab.context("finetune_world_model"), BrightJudge(), (nobody, nobody)) == {}


def outcomes(right: int, wrong: int) -> dict[str, Any]:
    return with_interval(Outcomes(hits=right, false_hopes=wrong, missed=0, rightly_failed=0, declined=0))


def measured_last(context: PhaseContext, used: dict[str, str] = USED) -> tuple[PhaseContext, Measured]:
    return context, last_measured(context, used)


def measured(lab: Lab, said: tuple[int, int], imagined: tuple[int, int], **spec: Any) -> dict[str, str]:
    """What is left out after a finetuning that measured this of one task, (right, wrong)."""
    lab.request({**SMALL, **spec})
    lab.end(
        lab.context("finetune_world_model"),
        {
            "judge_audit": {"open_drawer": outcomes(*said)},
            "trust": {"outcomes": {"open_drawer": outcomes(*imagined)}},
        },
    )
    return distrusted(*measured_last(lab.context("update_policy")))


@pytest.mark.parametrize(
    ("judge", "imagined", "left_out"),
    [
        ((20, 0), (20, 0), False),
        ((10, 10), (20, 0), True),  # surely below three quarters
        ((20, 0), (5, 15), True),  # surely below 60 %
        ((20, 0), (15, 5), False),  # below its bound of optimism, if barely
        ((20, 0), (14, 6), True),  # 0.30 too hopeful
        ((20, 0), (4, 3), False),  # so few say little of optimism
        ((0, 1), (0, 1), False),  # one episode says little
        ((0, 0), (0, 0), False),  # none says nothing
    ],
)
def test_a_task_is_left_out_when_agreement_is_surely_too_low(
    lab: Lab, judge: tuple[int, int], imagined: tuple[int, int], left_out: bool
) -> None:
    assert ("open_drawer" in measured(lab, judge, imagined)) is left_out


def test_agreement_that_may_be_low_by_luck_leaves_nothing_out(lab: Lab) -> None:
    """Ten of twenty is below 60 %, and its interval is not."""
    assert measured(lab, (20, 0), (10, 10), trust={"max_optimism": 1.0}) == {}


def test_the_reason_tells_how_hopeful_imagination_is(lab: Lab) -> None:
    reasons = measured(lab, (20, 0), (14, 6))
    assert reasons["open_drawer"] == "imagined success is +0.30 above real, +0.25 is allowed"


@pytest.mark.parametrize(
    ("acted", "measured_of", "left_out"),
    [
        ((10, 10), "p", {"open_drawer"}),
        ((10, 10), "another", set()),  # how another policy does says little of this one
        ((15, 5), "p", set()),
        ((4, 3), "p", set()),  # so few say little
    ],
)
def test_a_task_where_the_policy_itself_does_better_in_imagination_is_left_out(
    lab: Lab, acted: tuple[int, int], measured_of: str, left_out: set[str]
) -> None:
    """Replayed actions end as they did: they were decided on by real pictures."""
    trust = {
        "outcomes": {"open_drawer": outcomes(20, 0)},
        "closed_loop": {"tasks": {"open_drawer": outcomes(*acted)}},
    }
    lab.end(lab.context("finetune_world_model"), {"read": {**USED, "policy": measured_of}, "trust": trust})
    reasons = distrusted(*measured_last(lab.context("update_policy")))
    assert reasons.keys() == left_out
    if left_out:
        expected = "the policy's imagined success is +0.50 above real, +0.25 is allowed"
        assert reasons["open_drawer"] == expected


def test_what_is_asked_of_judge_and_imagination_is_in_the_spec(lab: Lab) -> None:
    asked = {
        "judge": {"updates": 2, "min_agreement": 0.0},
        "trust": {"min_agreement": 0.0, "max_optimism": 1.0},
    }
    assert measured(lab, (0, 20), (0, 20), **asked) == {}
    assert parse_spec({}).judge.min_agreement > parse_spec({}).trust.min_agreement


def test_the_reason_names_what_was_measured_and_what_was_asked(lab: Lab) -> None:
    reasons = measured(lab, (10, 10), (0, 20))
    assert reasons["open_drawer"] == (
        "the judge on real ends agrees with the label in 10 of 20, 75% is asked"
    ), "the judge's own failing comes first: what it says of imagination means nothing then"


def test_an_iteration_that_measured_nothing_leaves_nothing_out(lab: Lab) -> None:
    assert distrusted(*measured_last(lab.context("update_policy"))) == {}


@pytest.mark.parametrize(
    ("spec", "left_out"),
    [({}, {"open_drawer"}), ({"judge": {"kind": "vlm_http"}}, set()), ({"lineage": "other"}, set())],
)
def test_an_iteration_that_does_not_finetune_goes_by_what_was_measured_last(
    lab: Lab, spec: dict[str, Any], left_out: set[str]
) -> None:
    assert measured(lab, (0, 20), (20, 0)).keys() == {"open_drawer"}
    lab.request({**SMALL, "phases": ["update_policy"], "seed": 9, **spec})
    assert set(distrusted(*measured_last(lab.context("update_policy")))) == left_out


@pytest.mark.parametrize(
    ("said", "imagined", "used", "left_out"),
    [
        ((20, 0), (0, 20), {}, {"open_drawer"}),
        ((20, 0), (0, 20), {"world_model": "another"}, set()),  # what was adopted since was not measured
        ((0, 20), (20, 0), {"world_model": "another"}, {"open_drawer"}),  # the judge is the one it was
        ((0, 20), (0, 20), {"judge": "another"}, set()),
    ],
)
def test_what_was_measured_of_others_says_nothing(
    lab: Lab,
    said: tuple[int, int],
    imagined: tuple[int, int],
    used: dict[str, str],
    left_out: set[str],
) -> None:
    found = {"judge_audit": {"open_drawer": outcomes(*said)}, "made": {"judge": "j"}, "read": USED}
    trust = {"trust": {"outcomes": {"open_drawer": outcomes(*imagined)}}}
    lab.end(lab.context("finetune_world_model"), {**found, **trust})
    asked = {**USED, **used}
    assert set(distrusted(*measured_last(lab.context("update_policy"), asked))) == left_out


def test_where_the_judges_budget_was_spent_nothing_is_learned(lab: Lab) -> None:
    audit = {"open_drawer": outcomes(0, 0), "close_drawer": outcomes(20, 0)}
    lab.end(lab.context("finetune_world_model"), {"judge_audit": audit, "judge_exhausted": True})
    assert distrusted(*measured_last(lab.context("update_policy"))) == {
        "open_drawer": "the judge's budget was spent before it could be audited here"
    }


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """It sees success everywhere."""
    with running(Endpoint()) as found:
        yield found


def test_a_judge_that_nobody_has_audited_is_audited_before_a_policy_learns_from_it(
    lab: Lab, endpoint: Endpoint
) -> None:
    some_episodes(lab, *[("open_drawer", 255, False)] * 3, ("close_drawer", 255, True))
    for _ in range(2):  # the second by what was audited of another kind of judge
        context = asking(lab, "vlm_http", endpoint.url)
        coin = a_coin(tuple(TASKS.values()))
        audit = first_audit(context, coin, last_measured(context, USED), size=64)
        assert {entry["use"] for entry in audit.entries} == {"audited"}
        assert len(audit.entries) == 4
        assert audit.outcome["judge_audit"]["open_drawer"]["false_hopes"] == 3
        assert distrusted(*measured_last(context), audit=audit.outcome) == {
            "open_drawer": "the judge on real ends agrees with the label in 0 of 3, 75% is asked"
        }
        lab.end(context, {})
        lab.request(SMALL)
        lab.end(lab.context("finetune_world_model"), {"judge_audit": {"open_drawer": outcomes(20, 0)}})


@pytest.mark.parametrize(
    ("change", "again"),
    [({}, False), ({"max_usd": 1.0}, False), ({"model": "other-eyes"}, True), ({"votes": 3}, True)],
)
def test_who_is_asked_otherwise_is_another_judge(
    lab: Lab, endpoint: Endpoint, change: dict[str, Any], again: bool
) -> None:
    some_episodes(lab, ("open_drawer", 255, False))
    before = asking(lab, "vlm_http", endpoint.url)
    lab.end(before, {})
    lab.end(lab.context("finetune_world_model"), {"judge_audit": {"open_drawer": outcomes(20, 0)}})
    context = asking(lab, "vlm_http", endpoint.url, **change)
    audit = first_audit(context, a_coin(tuple(TASKS.values())), last_measured(context, USED), size=64)
    assert bool(audit.outcome) is again


def test_the_audit_of_an_update_is_in_its_outcome(lab: Lab) -> None:
    lab.do("collect", collect.run)
    outcome = lab.do("update_policy", update_policy.run)
    assert set(outcome["judge_audit"]) == {"open_drawer", "close_drawer"}


def test_what_the_finetuning_has_audited_the_update_does_not_audit_again(finetuned: Lab) -> None:
    assert "judge_audit" not in finetuned.do("update_policy", update_policy.run)


@pytest.fixture
def finetuned(lab: Lab) -> Lab:
    lab.do("collect", collect.run)
    lab.do("finetune_world_model", finetune_world_model.run)
    return lab


def overwrite(lab: Lab, audit: dict[str, Any]) -> None:
    """Let the finetuning have found this."""
    with lab.database.write() as session:
        run = phase_runs.latest(session, lab.iteration_id, phase="finetune_world_model")
        assert run is not None
        run.outcome = {**(run.outcome or {}), "judge_audit": audit}


def test_rollouts_start_only_at_trusted_tasks(finetuned: Lab) -> None:
    overwrite(finetuned, {"open_drawer": outcomes(0, 20), "close_drawer": outcomes(20, 0)})
    outcome = finetuned.do("update_policy", update_policy.run)
    assert set(outcome["imagined_success"]) == {"close_drawer"}
    assert set(outcome["tasks_left_out"]) == {"open_drawer"}


def test_a_task_that_is_left_out_is_held_where_it_is_by_its_real_episodes(finetuned: Lab) -> None:
    overwrite(finetuned, {"open_drawer": outcomes(0, 20), "close_drawer": outcomes(20, 0)})
    context = finetuned.context("update_policy")
    clips, named = update_policy.anchored_episodes(context, {"close_drawer"}, size=64)
    with finetuned.database.read() as session:
        query = replay.EpisodeQuery(tasks=("open_drawer",), held_out=False)
        stored = [row.id for row in replay.select(session, query)]
    assert [clip.episode_id for clip in clips] == [entry["id"] for entry in named] == stored != []
    assert {entry["use"] for entry in named} == {"anchored"}
    update_policy.run(context)
    assert any("anchor" in moment for moment in finetuned.moments)


def test_a_task_that_the_spec_does_not_name_is_held_where_it_is_too(finetuned: Lab) -> None:
    finetuned.request({**SMALL, "seed": 9, "tasks": ["close_drawer"]})
    outcome = finetuned.do("update_policy", update_policy.run)
    assert set(outcome["imagined_success"]) == {"close_drawer"}
    assert any("anchor" in moment for moment in finetuned.moments)


BOTH = {"open_drawer", "close_drawer"}


@pytest.mark.parametrize(("anchor", "imagined"), [(0.0, {"close_drawer"}), (1.0, BOTH)])
def test_nothing_is_held_where_everything_is_imagined_or_the_spec_lets_it_go(
    lab: Lab, anchor: float, imagined: set[str]
) -> None:
    lab.request({**SMALL, "policy": {**SMALL["policy"], "anchor": anchor}})
    lab.do("collect", collect.run)
    assert update_policy.anchored_episodes(lab.context("update_policy"), imagined, size=64) == ([], [])


def test_where_no_task_is_trusted_the_policy_stays_as_it_is(finetuned: Lab) -> None:
    overwrite(finetuned, {task: outcomes(0, 20) for task in ("open_drawer", "close_drawer")})
    outcome = finetuned.do("update_policy", update_policy.run)
    assert outcome["made"] == {}
    assert outcome["updates"] == 0
    assert set(outcome["tasks_left_out"]) == {"open_drawer", "close_drawer"}


def test_updates_that_taught_nothing_make_no_candidate(finetuned: Lab) -> None:
    finetuned.request({**SMALL, "policy": {**SMALL["policy"], "updates": 0}})
    finetuned.do("collect", collect.run)
    outcome = finetuned.do("update_policy", update_policy.run)
    assert (outcome["made"], outcome["optimizer_steps"]) == ({}, 0)
    with finetuned.database.read() as session:
        assert replay.select(session, replay.EpisodeQuery(limit=1))


def test_outcomes_are_counted_where_there_is_a_label() -> None:
    verdicts = Verdicts(
        success=torch.tensor([True, True, False, False, True, True]),
        known=torch.tensor([True, True, True, True, False, True]),
        probability=torch.zeros(6),
    )
    found = counted(verdicts, [True, False, True, False, True, None])
    assert found == Outcomes(hits=1, false_hopes=1, missed=1, rightly_failed=1, declined=1)
