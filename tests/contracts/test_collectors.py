"""What every way of bringing real episodes home promises, held against all three: see `Collector`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.lab import free_port
from daemon.phases import collect
from daemon.phases.arms import load_arms
from daemon.phases.checkpoints import newest
from daemon.phases.clips import Shelf, load_clips
from daemon.phases.collectors.collector import Collector
from daemon.phases.context import PhaseContext
from daemon.phases.sink import EpisodeSink
from daemon.phases.slots import Slot, scene_seed
from daemon.phases.todo import Todo, Wanted
from storage import episodes, replay
from storage.array_cache import ArrayCache
from storage.errors import LeaseLost
from storage.tables import EpisodeRow
from tests.daemon.phases.collectors.autoeval_lab import AutoEvalLab, emulator
from tests.daemon.phases.conftest import Lab, lab, make_policy, model_files, toy_station  # noqa: F401 - fixtures

WAYS = ("stepped", "callback", "autoeval")


@dataclass(slots=True)
class Bench:
    """One way of collecting and the lab that it fills."""

    lab: Lab
    context: PhaseContext

    @contextmanager
    def collector(self, **changes: Any) -> Iterator[tuple[EpisodeSink, Collector]]:
        """The robot of this bench that is at the drawer, ready."""
        context = replace(self.context, **changes)
        with collect.robots(context, load_arms(context)) as (sink, robots):
            yield sink, next(robot for robot in robots if "open_drawer" in robot.offers)

    def run(self, **changes: Any) -> Todo:
        """Collect what is wanted; what was left then."""
        with self.collector(**changes) as (sink, robot):
            robot.take_home()
            todo = Todo(sink.wanted(), total=len(sink.slots))
            robot.collect(todo, stop=threading.Event())
        return todo

    def slots(self) -> list[Slot]:
        """What the iteration wants."""
        with self.collector() as (sink, _):
            return list(sink.slots)

    def stored(self) -> list[EpisodeRow]:
        with self.lab.database.read() as session:
            query = replay.EpisodeQuery(iteration_ids=(self.lab.iteration_id,), valid_for_world_model=None)
            return replay.select(session, query)


@pytest.fixture(params=WAYS)
def bench(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> Iterator[Bench]:  # noqa: F811
    with ExitStack() as stack:
        context = lab.context("collect")
        if request.param == "autoeval":
            root = tmp_path / "autoeval"
            url = stack.enter_context(emulator(root))
            point = AutoEvalLab(lab=lab, url=url, gateway_port=free_port(), root=root)
            yield Bench(lab, point.context(context))
        else:
            settings = context.settings.model_copy(update={"collect_via": request.param})
            yield Bench(lab, replace(context, settings=settings))


def test_it_says_who_it_is_what_it_can_do_and_what_is_kept_of_it(bench: Bench) -> None:
    with bench.collector() as (_, robot):
        assert robot.name
        assert robot.offers["open_drawer"] == "open the drawer"
        assert json.loads(json.dumps(robot.facts))["station_id"] == robot.name


def test_every_slot_is_filled_by_an_episode_that_names_slot_policy_station_and_verdict(bench: Bench) -> None:
    todo = bench.run()
    assert todo.left == ()
    assert todo.share == 1.0
    rows = bench.stored()
    manifests = [json.loads(row.manifest) for row in rows]
    assert sorted(manifest["metadata"]["slot"] for manifest in manifests) == [
        *("close_drawer/0", "close_drawer/1", "open_drawer/0", "open_drawer/1")
    ]
    assert {manifest["metadata"]["iteration_id"] for manifest in manifests} == {bench.lab.iteration_id}
    assert {manifest["policy"]["version"] for manifest in manifests} == {newest(bench.context, "policy").id}
    assert all(manifest["labels"] for manifest in manifests)
    assert all(row.valid_for_policy_eval for row in rows)
    with bench.collector() as (_, robot):
        assert {row.station_id for row in rows} == {robot.name}


def test_a_candidate_acts_as_often_as_the_champion_and_episodes_name_who_acted(bench: Bench) -> None:
    old, new = newest(bench.context, "policy").id, make_policy(bench.lab)
    todo = bench.run()
    assert todo.left == ()
    rows = bench.stored()
    slots = {slot.name: slot for slot in bench.slots()}
    policies = {"champion": old, "candidate": new}
    manifests = {json.loads(row.manifest)["metadata"]["slot"]: row for row in rows}
    assert sorted(manifests) == sorted(slots)
    for name, row in manifests.items():
        assert row.checkpoint_id == policies[slots[name].arm]
        told = row.manifest.lower()
        assert not any(arm in told for arm in policies), "nothing that the robot keeps says which arm it was"
    for task in ("open_drawer", "close_drawer"):
        arms = [slot.arm for slot in slots.values() if slot.task_id == task]
        assert sorted(arms) == ["candidate"] * 2 + ["champion"] * 2
    assert len(rows) == 8


def test_collecting_again_finds_nothing_to_do_and_stores_nothing(bench: Bench) -> None:
    bench.run()
    before = {row.id: row.committed_at for row in bench.stored()}
    bench.run()
    assert {row.id: row.committed_at for row in bench.stored()} == before


def test_a_task_that_it_does_not_offer_is_left_for_others(bench: Bench) -> None:
    with bench.collector() as (sink, robot):
        foreign = replace(sink.slots[0], task_id="fold_towel", seed=scene_seed(0, task="fold_towel", index=0))
        todo = Todo([Wanted(slot=foreign, tries=(1, 2, 3))], total=1)
        robot.collect(todo, stop=threading.Event())
        assert todo.left == (foreign,)
    assert bench.stored() == []


def test_it_does_not_begin_once_it_is_to_stop(bench: Bench) -> None:
    stop = threading.Event()
    stop.set()
    with bench.collector() as (sink, robot):
        todo = Todo(sink.wanted(), total=len(sink.slots))
        robot.collect(todo, stop=stop)
        assert todo.left == tuple(sink.slots)
    assert bench.stored() == []


def test_a_lost_phase_run_ends_it_and_its_successor_fills_what_is_missing(bench: Bench) -> None:
    told: list[str] = []

    def report(share: float, text: str) -> None:
        told.append(text)
        if len(told) == 2:
            raise LeaseLost(name="phase", fence=1, current=2, holder="worker-2")

    with pytest.raises(LeaseLost):
        bench.run(report=report)
    assert bench.run().left == ()
    valid = [row for row in bench.stored() if row.valid_for_policy_eval]
    assert len(valid) == 4


def test_slots_that_it_could_not_fill_are_put_back_when_it_is_stopped(bench: Bench) -> None:
    stop = threading.Event()
    with bench.collector(report=lambda share, text: stop.set()) as (sink, robot):
        todo = Todo(sink.wanted(), total=len(sink.slots))
        robot.collect(todo, stop=stop)
        filled = {json.loads(row.manifest)["metadata"]["slot"] for row in bench.stored()}
        assert {slot.name for slot in todo.left} == {slot.name for slot in sink.slots} - filled


def test_an_action_moves_the_arm_between_its_own_frame_and_the_next(bench: Bench) -> None:
    """Action t belongs between observations t and t + 1, in what training gets too, not one earlier or later.

    The arm's measured motion from frame t + lag to the next is compared with action t; the right lag is 0.
    """
    bench.run()
    shelf = Shelf(blobs=bench.lab.blobs, cache=ArrayCache(bench.lab.folder / "cache"))
    errors = dict.fromkeys((-1, 0, 1), 0.0)
    with bench.lab.database.read() as session:
        rows = bench.stored()
        clips = load_clips(session, shelf, rows)
        for row, clip in zip(rows, clips, strict=True):
            states = episodes.load(session, bench.lab.blobs, row.id).steps.state[:, :3]
            assert len(clip.frames) == len(states) == clip.steps + 1
            moved, asked = np.diff(states, axis=0), clip.actions[:, :3].numpy()
            for lag in errors:
                window = slice(1, clip.steps - 1)
                errors[lag] += float(np.square(moved[1 + lag : clip.steps - 1 + lag] - asked[window]).sum())
    assert errors[0] < 0.25 * min(errors[-1], errors[1]), errors
