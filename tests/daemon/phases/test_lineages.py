"""Phases of two lineages beside each other: what each goes on from, and that they share a robot in peace."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import NothingCollected
from daemon.phases import collect, finetune_world_model
from daemon.phases.arms import candidate, champion, load_arms
from daemon.phases.checkpoints import Made, bring_in, newest
from daemon.phases.clips import shelf_of
from daemon.phases.context import PhaseContext
from daemon.phases.real_episodes import earlier, start_rows
from daemon.phases.referee import roll_back
from daemon.phases.sink import EpisodeSink
from daemon.settings import Settings
from storage import phase_runs, replay, trials
from tests.daemon.phases.conftest import SMALL, Lab, make_policy, wall_clock
from tests.daemon.phases.test_checkpoints import Written


def in_lineage(lab: Lab, name: str, phase: str, **spec: Any) -> PhaseContext:
    """A phase of a fresh iteration of this lineage."""
    lab.request({**SMALL, "lineage": name, "seed": len(lab.told), **spec})
    return lab.context(phase)


def decided(context: PhaseContext, old: str, new: str, decision: str) -> None:
    trial = trials.NewTrial(
        iteration_id=context.iteration_id, champion_id=old, candidate_id=new, decision=decision, evidence={}
    )
    with context.database.write() as session:
        trials.save(session, trial, now=wall_clock())


def test_what_one_lineage_made_and_promoted_is_neither_champion_nor_candidate_of_another(lab: Lab) -> None:
    main = lab.context("collect")
    base = champion(main)
    lab.end(main, {})
    made = make_policy(lab)
    elsewhere, again = in_lineage(lab, "b", "collect"), in_lineage(lab, "main", "collect")
    assert candidate(again, base).id == made  # type: ignore[union-attr]
    assert load_arms(elsewhere).candidate is None
    decided(again, base.id, made, "promoted")
    assert [champion(context).id for context in (again, elsewhere)] == [made, base.id]
    assert candidate(again, champion(again)) is None


def test_each_lineage_goes_on_from_its_own_world_model_and_judge(lab: Lab) -> None:
    first = in_lineage(lab, "a", "finetune_world_model")
    before = {kind: newest(first, kind) for kind in ("world_model", "judge")}
    made = {
        kind: collect_made(first, Made(kind=kind, parent=parent, card={})) for kind, parent in before.items()
    }
    lab.end(first, {"made": made})
    assert {kind: newest(first, kind).id for kind in before} == made
    other = in_lineage(lab, "b", "finetune_world_model")
    assert {kind: newest(other, kind).id for kind in before} == {kind: row.id for kind, row in before.items()}


def collect_made(context: PhaseContext, made: Made) -> str:
    return finetune_world_model.keep(context, Written(made.kind.encode()), made).id


def test_what_is_brought_in_for_a_lineage_is_tried_there_alone(lab: Lab) -> None:
    here, there = in_lineage(lab, "b", "collect"), in_lineage(lab, "c", "collect")
    made = Made(kind="policy", parent=champion(here), card={}, lineage="b")
    row = bring_in(Written(b"brought"), made, database=lab.database, blobs=lab.blobs, now=wall_clock())
    found = candidate(here, champion(here))
    assert found is not None
    assert (found.id, found.lineage) == (row.id, "b")
    assert candidate(there, champion(there)) is None


def test_learning_without_collecting_looks_at_episodes_of_its_own_lineage_alone(lab: Lab) -> None:
    lab.do("collect", collect.run)
    own = in_lineage(lab, "main", "update_policy", phases=["update_policy"])
    other = in_lineage(lab, "b", "finetune_world_model", phases=["finetune_world_model"])
    with lab.database.read() as session:
        assert len(start_rows(session, own)) == 2
        assert start_rows(session, other) == []
        assert replay.select(session, earlier(other, at_most=10)) == []
    with pytest.raises(NothingCollected, match="of this iteration or an earlier one"):
        finetune_world_model.run(other)


def test_the_older_episodes_that_a_world_model_learns_from_are_of_its_lineage(lab: Lab) -> None:
    lab.do("collect", collect.run)
    lab.request({**SMALL, "lineage": "b", "seed": 4})
    lab.do("collect", collect.run)
    context = lab.context("finetune_world_model")
    material = finetune_world_model.begun(context, shelf_of(context))[2]
    assert [len(part) for part in (material.fresh, material.older, material.held_out_older)] == [2, 0, 0]


def test_a_champion_is_not_rolled_back_for_what_another_lineage_saw(lab: Lab) -> None:
    """The base acts in both. Where it was never beaten, its successor's failures elsewhere say nothing."""
    here = in_lineage(lab, "a", "collect")
    base, made = champion(here), make_policy(lab)
    decided(here, base.id, made, "promoted")
    elsewhere = in_lineage(lab, "b", "collect")
    with lab.database.read() as session:
        row = champion(here)
        assert trials.crowning(session, row.id, lineage="b") is None
    assert roll_back(elsewhere, row) is None


def test_while_an_iteration_collects_another_does_not_take_its_episodes_home(lab: Lab) -> None:
    first = in_lineage(lab, "a", "collect")
    second = in_lineage(lab, "b", "collect")
    with collect.robots(first, load_arms(first)) as (sink, (collector,)):
        client = collector._client
        with client.leased("iteration-2", 20.0):
            episode = collector.act(sink.slots[0], attempt=1, stop=threading.Event())
    assert episode is not None
    assert EpisodeSink(first).is_ours(episode.manifest)
    assert not EpisodeSink(second).is_ours(episode.manifest)
    with lab.database.write() as session:
        phase_runs.cancel(session, first.iteration_id, now=wall_clock())
    assert EpisodeSink(second).is_ours(episode.manifest)


@pytest.mark.parametrize(
    ("settings", "waits"),
    [
        ({"collect_via": "autoeval", "autoeval_url": "http://autoeval.example"}, True),
        ({"collect_via": "callback", "policy_bind": "127.0.0.1:8999"}, True),
        ({"collect_via": "callback", "policy_bind": "127.0.0.1:0"}, False),
        ({"collect_via": "stepped"}, False),
    ],
)
def test_where_robots_have_one_door_the_iteration_that_came_later_waits(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], waits: bool
) -> None:
    monkeypatch.setattr(collect, "LOOK_EVERY_S", 0.01)
    chosen = Settings(data_dir=tmp_path, **settings)
    first, second = (replace(in_lineage(lab, name, "collect"), settings=chosen) for name in ("a", "b"))
    told: list[str] = []

    def report(share: float, text: str) -> None:
        told.append(text)
        with lab.database.write() as session:
            phase_runs.cancel(session, first.iteration_id, now=wall_clock())

    collect.await_turn(replace(first, report=lambda share, text: pytest.fail("the first one waits")))
    collect.await_turn(replace(second, report=report))
    assert told == [f"waiting: the robots answer to iteration {first.iteration_number}"] * waits
