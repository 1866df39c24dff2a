"""Collecting over real HTTP from a toy station: every wanted episode, once, whatever happened before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.phases import collect
from daemon.phases.collect import Collector
from daemon.phases.slots import ITERATION_KEY
from daemon.spec import parse_spec
from robot_bridge.client import StationClient
from robot_bridge.errors import RobotBridgeError, UnknownTask
from storage import episodes, phase_runs, replay, stations
from storage.errors import LeaseLost
from storage.tables import EpisodeRow
from tests.daemon.phases.conftest import SMALL, Lab, wall_clock


def stored(lab: Lab) -> list[EpisodeRow]:
    with lab.database.read() as session:
        query = replay.EpisodeQuery(iteration_ids=(lab.iteration_id,), valid_for_world_model=None)
        return replay.select(session, query)


def waiting(lab: Lab) -> int:
    client = StationClient(lab.station_url)
    try:
        spooled = [client.fetch_episode(e.episode_id) for e in client.waiting_episodes()]
    finally:
        client.close()
    return sum(e.manifest.metadata.get(ITERATION_KEY) == lab.iteration_id for e in spooled)


def test_every_slot_is_filled_and_nothing_is_left_at_the_station(lab: Lab) -> None:
    outcome = lab.do("collect", collect.run)
    assert (outcome["slots"], outcome["filled"]) == (4, 4)
    rows = stored(lab)
    assert sorted(row.task_id for row in rows) == ["close_drawer"] * 2 + ["open_drawer"] * 2
    assert all(row.steps == 10 and row.valid_for_policy_eval for row in rows)
    assert sum(row.held_out for row in rows) == 2
    assert waiting(lab) == 0


def test_episodes_name_the_policy_that_acted_and_the_station_is_described(lab: Lab) -> None:
    outcome = lab.do("collect", collect.run)
    assert {row.checkpoint_id for row in stored(lab)} == {outcome["read"]["policy"]}
    with lab.database.read() as session:
        (station,) = stations.list_stations(session)
        assert station.description["robot_model"] == "toy"


def test_success_is_counted_from_the_stations_labels(lab: Lab) -> None:
    lab.do("collect", collect.run)
    with lab.database.read() as session:
        counts = episodes.success_counts(session, lab.iteration_id)
        labels = [episodes.effective_label(session, row.id) for row in stored(lab)]
    assert {task: n for task, (_, n) in counts.items()} == {"open_drawer": 2, "close_drawer": 2}
    assert {label.source for label in labels if label} == {"sim_predicate"}
    assert sum(k for k, _ in counts.values()) == sum(bool(label and label.success) for label in labels)


def test_an_attempt_after_a_crash_adds_only_what_is_missing(lab: Lab) -> None:
    interrupted = lab.context("collect")
    seen: list[float] = []

    def die_after_two(share: float, text: str) -> None:
        seen.append(share)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect.run(replace(interrupted, report=die_after_two))
    before = {row.id: row.committed_at for row in stored(lab)}
    assert len(before) == 2
    collect.run(interrupted)
    after = {row.id: row.committed_at for row in stored(lab)}
    assert len(after) == 4
    assert before.items() <= after.items()


def test_an_episode_that_was_finished_but_not_fetched_is_taken_home(lab: Lab) -> None:
    context = lab.context("collect")
    client = StationClient(lab.station_url)
    wanted = collect.plan(context, client)
    row = collect.newest(context, "policy")
    policy = collect.Policy.load(collect.checkpoints.path(row, lab.blobs))
    collector = Collector(context=context, client=client, policy=policy, checkpoint=row, slots=wanted)
    with client.leased("a worker that dies now", 20.0):
        left_behind = collector.act(wanted[0], attempt=1)
    client.close()
    assert stored(lab) == []
    assert collect.run(context)["filled"] == 4
    rows = stored(lab)
    assert len(rows) == 4
    assert left_behind.manifest.episode_id in {found.id for found in rows}


def test_the_same_iteration_seed_gives_the_same_scenes(lab: Lab) -> None:
    lab.do("collect", collect.run)
    first = stored(lab)
    lab.request(SMALL)
    lab.do("collect", collect.run)
    second = stored(lab)

    def starts(rows: list[EpisodeRow]) -> list[bytes]:
        with lab.database.read() as session:
            found = [episodes.frames(session, lab.blobs, row.id).jpeg(0) for row in rows]
        return sorted(found)

    assert {row.id for row in first}.isdisjoint(row.id for row in second)
    assert starts(first) == starts(second)


def test_a_task_that_the_station_does_not_offer_is_refused_before_the_arm_moves(lab: Lab) -> None:
    lab.request({**SMALL, "tasks": ["put_eggplant_blue_sink"]})
    with pytest.raises(UnknownTask, match="put_eggplant_blue_sink"):
        collect.run(lab.context("collect"))
    assert stored(lab) == []


def test_all_the_stations_tasks_are_meant_when_the_spec_names_none(lab: Lab) -> None:
    lab.request({**SMALL, "tasks": None})
    context = lab.context("collect")
    client = StationClient(lab.station_url)
    try:
        assert {slot.task_id for slot in collect.plan(context, client)} == {"open_drawer", "close_drawer"}
    finally:
        client.close()


def test_an_unreachable_station_is_an_error_that_may_pass(lab: Lab) -> None:
    context = lab.context("collect")
    nowhere = context.settings.model_copy(update={"station_url": "http://127.0.0.1:9"})
    with pytest.raises(RobotBridgeError) as refused:
        collect.run(replace(context, settings=nowhere))
    assert (refused.value.code, refused.value.retryable) == ("station_unreachable", True)


def test_a_worker_that_lost_its_phase_run_stores_nothing_and_the_station_keeps_the_episode(lab: Lab) -> None:
    context = lab.context("collect")

    def lose(share: float, text: str) -> None:
        with lab.database.write() as session:
            phase_runs.cancel(session, lab.iteration_id, now=wall_clock())

    with pytest.raises(LeaseLost):
        collect.run(replace(context, report=lose))
    assert stored(lab) == []
    assert waiting(lab) == 1


def test_progress_rises_and_names_the_episode(lab: Lab) -> None:
    lab.do("collect", collect.run)
    shares = [share for share, _ in lab.told]
    assert shares == sorted(shares)
    assert lab.told[-1][1] == "episode 4 of 4: close_drawer/1"


def test_an_episode_has_as_many_steps_as_whole_chunks_fit() -> None:
    with pytest.raises(Exception, match="steps"):
        parse_spec({**SMALL, "steps": 3})
