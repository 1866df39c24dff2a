"""Collecting over real HTTP from a toy station: every wanted episode, once, whatever happened before."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from daemon.errors import SpecInvalid
from daemon.learning.batch import resize_frames
from daemon.learning.policy.policy import Policy
from daemon.phases import collect
from daemon.phases.slots import ITERATION_KEY
from daemon.spec import parse_spec
from robot_bridge.client import StationClient
from robot_bridge.drivers.faults import FaultPlan, FaultyDriver
from robot_bridge.episode import Episode
from robot_bridge.errors import DriverError, RobotBridgeError, UnknownTask, VersionMismatch
from robot_bridge.station import describe
from robot_bridge.station.serve import running_station
from storage import episodes, phase_runs, replay, stations, success_counts
from storage.errors import LeaseLost
from storage.tables import EpisodeRow
from tests.daemon.phases.conftest import SMALL, Lab, a_coin, keep_checkpoint, wall_clock
from tests.robot_bridge.toy_driver import TASKS, ToyDriver


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


def test_episodes_whose_last_chunk_is_a_part_of_one_are_whole(lab: Lab) -> None:
    context = lab.context("collect")
    collect.run(replace(context, spec=context.spec.model_copy(update={"steps": 7})))
    assert [(row.steps, row.valid_for_policy_eval) for row in stored(lab)] == [(7, True)] * 4


def test_episodes_name_the_policy_that_acted_and_the_station_is_described(lab: Lab) -> None:
    outcome = lab.do("collect", collect.run)
    assert {row.checkpoint_id for row in stored(lab)} == {outcome["read"]["policy"]}
    with lab.database.read() as session:
        (station,) = stations.list_stations(session)
        assert station.description["robot_model"] == "toy"


def test_success_is_counted_from_the_stations_labels(lab: Lab) -> None:
    lab.do("collect", collect.run)
    with lab.database.read() as session:
        counts = success_counts.by_task(session, iteration_id=lab.iteration_id)
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
    with collect.robots(context, collect.load_arms(context)) as (sink, (collector,)):
        client = collector._client
        with client.leased("a worker that dies now", 20.0):
            left_behind = collector.act(sink.slots[0], attempt=1, stop=threading.Event())
    assert left_behind is not None
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
    collect.run(lab.context("collect"))
    assert {row.task_id for row in stored(lab)} == {"open_drawer", "close_drawer"}


@pytest.mark.parametrize("mode", ["stepped", "callback"])
def test_both_ways_of_running_an_episode_fill_every_slot_with_the_same_actions(lab: Lab, mode: str) -> None:
    context = lab.context("collect")
    settings = context.settings.model_copy(update={"collect_via": mode})
    assert collect.run(replace(context, settings=settings))["filled"] == 4
    rows = stored(lab)
    assert {json.loads(row.manifest)["mode"] for row in rows} == {mode}
    policy = collect.load_arms(context).champion.policy
    with lab.database.read() as session:
        for row in rows:
            assert_drawn_by(policy, episodes.load(session, lab.blobs, row.id))


def assert_drawn_by(policy: Policy, episode: Episode) -> None:
    """Its raw actions are what the policy decides from its pictures and seed: chunk by chunk, open loop."""
    generator = torch.Generator().manual_seed(int(episode.manifest.metadata["seed"]))
    for t in range(0, episode.manifest.T, policy.chunk):
        image = resize_frames(episode.frames.decode(t)[None])
        chunk = policy.act(image, (episode.manifest.instruction,), temperature=1.0, generator=generator)
        found = episode.steps.raw_action[t : t + policy.chunk]
        np.testing.assert_array_equal(found, chunk.actions[0].numpy())


def test_two_stations_share_the_work_and_each_is_given_back(lab: Lab, tmp_path: Path) -> None:
    lab.request({**SMALL, "collect": {**SMALL["collect"], "episodes_per_task": 8}})
    context = lab.context("collect")
    with running_station(ToyDriver(), spool=tmp_path / "second", station_id="toy-2") as second:
        both = context.settings.model_copy(update={"station_url": f"{lab.station_url},{second}"})
        outcome = collect.run(replace(context, settings=both))
        client = StationClient(second)
        assert client.status().lease is None
        client.close()
    assert (outcome["slots"], outcome["filled"]) == (16, 16)
    assert outcome["robots"] == ["toy-1", "toy-2"]
    assert {row.station_id for row in stored(lab)} == {"toy-1", "toy-2"}


def test_a_station_that_does_not_answer_is_left_out_when_another_one_does(lab: Lab) -> None:
    context = lab.context("collect")
    urls = f"http://127.0.0.1:9,{lab.station_url}"
    settings = context.settings.model_copy(update={"station_url": urls})
    outcome = collect.run(replace(context, settings=settings))
    assert (outcome["filled"], outcome["robots"]) == (4, ["toy-1"])


def test_an_episode_that_was_cut_short_is_kept_apart_and_its_slot_is_filled_again(
    lab: Lab, tmp_path: Path
) -> None:
    driver = FaultyDriver(ToyDriver(), plan=FaultPlan())
    context = lab.context("collect")
    with running_station(driver, spool=tmp_path / "second", station_id="faulty") as url:
        driver.inject("black_camera")  # at the next reset: seen in the first picture
        driver.inject("ik_failure")
        settings = context.settings.model_copy(update={"station_url": url})
        with suppress(DriverError):  # a reset that fails is the robot's fault, and may pass
            collect.run(replace(context, settings=settings))
        outcome = collect.run(replace(context, settings=settings))
    assert outcome["filled"] == 4
    assert sum(row.valid_for_policy_eval for row in stored(lab)) == 4


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
    assert lab.told[-1][1] == "episode 4 of 4: close_drawer/1 on toy-1"


def test_an_episode_has_as_many_steps_as_whole_chunks_fit() -> None:
    with pytest.raises(Exception, match="steps"):
        parse_spec({**SMALL, "steps": 3})


STOPPING = {**SMALL, "stop_on_success": True}


def opinionated(lab: Lab, bias: float) -> str:
    """The newest judge is one that always says yes (or no, for a bias below 0); gives its id."""
    judge = a_coin(tuple(TASKS.values()))
    with torch.no_grad():
        judge.model.decide[-1].bias += bias
    judge.save(file := lab.folder / "judge.safetensors", {})
    return keep_checkpoint(lab.database, lab.blobs, "judge", file).id


def test_episodes_end_after_the_chunk_in_which_the_judge_sees_success_and_count(lab: Lab) -> None:
    """Of ten steps, in chunks of five; what the station says of that moment is the label, as always."""
    judge = opinionated(lab, 1e3)
    lab.request(STOPPING)
    outcome = lab.do("collect", collect.run)
    assert (outcome["filled"], outcome["read"]["judge"]) == (4, judge)
    rows = stored(lab)
    assert [(row.steps, row.outcome, row.valid_for_policy_eval) for row in rows] == [
        (5, "completed", True)
    ] * 4
    with lab.database.read() as session:
        for row in rows:
            episode = episodes.load(session, lab.blobs, row.id)
            assert episode.manifest.metadata["ended_by"] == judge
            assert len(episode.frames) == 6
            (label,) = episode.manifest.labels
            assert label.source == "sim_predicate"
            assert label.success is bool(episode.steps.state[-1, 0] > 0.30), "the toy's own rule"
        assert sum(n for _, n in success_counts.by_task(session, iteration_id=lab.iteration_id).values()) == 4


@pytest.mark.parametrize(("bias", "stops"), [(-1e3, True), (1e3, False)])
def test_episodes_have_their_full_length_where_the_judge_sees_none_or_is_not_asked(
    lab: Lab, bias: float, stops: bool
) -> None:
    judge = opinionated(lab, bias)
    lab.request({**SMALL, "stop_on_success": stops})
    outcome = lab.do("collect", collect.run)
    rows = stored(lab)
    assert [(row.steps, row.valid_for_policy_eval) for row in rows] == [(10, True)] * 4
    ended_by = {json.loads(row.manifest)["metadata"].get("ended_by") for row in rows}
    assert ended_by == {judge if stops else None}
    assert ("judge" in outcome["read"]) is stops


def test_an_episode_that_stops_is_the_beginning_of_the_one_that_would_not_have(lab: Lab) -> None:
    def actions() -> dict[str, np.ndarray]:
        lab.do("collect", collect.run)
        with lab.database.read() as session:
            loaded = [episodes.load(session, lab.blobs, row.id) for row in stored(lab)]
        return {episode.manifest.metadata["slot"]: episode.steps.raw_action for episode in loaded}

    whole = actions()
    opinionated(lab, 1e3)
    lab.request(STOPPING)
    stopped = actions()
    assert stopped.keys() == whole.keys()
    for slot, taken in stopped.items():
        np.testing.assert_array_equal(taken, whole[slot][:5])


@pytest.mark.parametrize("mode", ["callback", "autoeval"])
def test_a_way_that_cannot_end_episodes_refuses_before_the_arm_moves(lab: Lab, mode: str) -> None:
    lab.request(STOPPING)
    context = lab.context("collect")
    settings = context.settings.model_copy(update={"collect_via": mode})
    with pytest.raises(SpecInvalid, match=f"GYMNASTD_COLLECT_VIA is {mode}"):
        collect.run(replace(context, settings=settings))
    assert stored(lab) == []


def test_a_station_of_before_says_so_before_the_arm_moves(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "PROTOCOL_MINOR", 1)
    lab.request(STOPPING)
    with pytest.raises(VersionMismatch, match=r"1\.2 \(stop_on_success\) .* speaks 1\.1"):
        collect.run(lab.context("collect"))
    lab.request(SMALL)
    assert lab.do("collect", collect.run)["filled"] == 4
