"""Collecting at AutoEval: every slot filled or told why not, one job per need, whatever dies on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from daemon.lab import free_port
from daemon.phases import collect
from daemon.phases.collectors.autoeval_link import NoRobot
from daemon.scheduling.errors import HumanAwaited
from robot_bridge.autoeval.errors import RobotOffline, SchedulerUnreachable
from robot_bridge.autoeval.gateway import Gateway
from robot_bridge.autoeval.gateway_errors import GatewayBusy
from storage import episodes, events, iterations, success_counts
from tests.daemon.phases.collectors.autoeval_lab import AutoEvalLab, emulator, toy_that_is
from tests.daemon.phases.conftest import SMALL, Lab, wall_clock
from tests.robot_bridge.autoeval.fake_scheduler import FakeScheduler, running
from tests.waiting import until

Start = Callable[..., AutoEvalLab]


@pytest.fixture
def start(lab: Lab, tmp_path: Path) -> Iterator[Start]:
    """Starts an emulator with these quirks, and points the lab at it."""
    with ExitStack() as stack:

        def begin(name: str = "autoeval", **quirks: Any) -> AutoEvalLab:
            root = tmp_path / name
            url = stack.enter_context(emulator(root, **quirks))
            return AutoEvalLab(lab=lab, url=url, gateway_port=free_port(), root=root)

        yield begin


def test_every_slot_is_filled_and_what_is_counted_is_what_autoeval_counted(start: Start) -> None:
    lab = start(classifier_noise=0.5)
    outcome = lab.collect()
    assert (outcome["slots"], outcome["filled"]) == (4, 4)
    with lab.lab.database.read() as session:
        counts = success_counts.by_task(session, iteration_id=lab.lab.iteration_id)
    told = {job["task"]: (round(job["success_rate"] * 2), 2) for job in lab.listed()}
    assert counts == told
    assert {row.state for row in lab.rows()} == {"joined"}
    assert {row.task_id: row.success_rate for row in lab.rows()} == {
        job["task"]: job["success_rate"] for job in lab.listed()
    }


def test_episodes_of_a_job_say_which_slot_they_fill_who_acted_and_where_they_are_from(start: Start) -> None:
    lab = start()
    outcome = lab.collect()
    names = ["close_drawer/0", "close_drawer/1", "open_drawer/0", "open_drawer/1"]
    assert lab.metadata("slot") == names
    assert lab.metadata("provenance") == ["verified"] * 4
    rows = lab.stored()
    assert {row.checkpoint_id for row in rows} == {outcome["read"]["policy"]}
    assert {row.station_id for row in rows} == {"autoeval-widowx_drawer"}
    assert sum(row.held_out for row in rows) == 2
    assert all(row.steps == SMALL["steps"] and row.valid_for_policy_eval for row in rows)


def test_a_job_leaves_no_secret_and_no_recording_behind(start: Start) -> None:
    lab = start()
    lab.collect()
    assert [row.capability for row in lab.rows()] == [None, None]
    gateway = lab.lab.folder / "autoeval" / "gateway" / "jobs"
    assert list(gateway.iterdir()) == []
    assert all(job["policy_server_ip"].rpartition("/")[2] not in job["description"] for job in lab.listed())


@pytest.mark.slow
def test_attempts_that_broke_are_kept_for_the_world_model_and_never_counted(start: Start) -> None:
    lab = start(motor_failures=frozenset({(0, 0, 6)}), build=toy_that_is(done=False))
    lab.collect()
    rows = lab.stored()
    assert len(rows) == 6
    retries = [row for row in rows if not row.valid_for_policy_eval]
    assert len(retries) == 2
    assert all(row.valid_for_world_model and row.outcome == "aborted_hw" for row in retries)
    assert lab.metadata("join") == ["matched"] * 4 + ["retry"] * 2
    with lab.lab.database.read() as session:
        counts = success_counts.by_task(session, iteration_id=lab.lab.iteration_id)
    assert {task: of for task, (_, of) in counts.items()} == {"open_drawer": 2, "close_drawer": 2}


@pytest.mark.slow
def test_an_attempt_that_broke_when_its_task_was_done_is_an_episode_and_no_retry(start: Start) -> None:
    lab = start(motor_failures=frozenset({(0, 0, 6)}), build=toy_that_is(done=True))
    assert lab.collect()["filled"] == 4
    assert {row.state for row in lab.rows()} == {"joined"}
    assert lab.metadata("join") == ["matched"] * 4
    assert lab.metadata("experienced_motor_failure") == ["0", "0", "1", "1"]
    assert sorted(row.steps for row in lab.stored()) == [7, 7, 10, 10]


def test_a_job_without_recordings_is_run_again_three_times_at_most_and_counts_for_nothing(
    start: Start,
) -> None:
    lab = start(lost_uploads=frozenset({"traj_0.pkl", "traj_1.pkl"}))
    lab.lab.request({**SMALL, "tasks": ["open_drawer"]})
    outcome = lab.collect(autoeval_join_wait_s=0.0)
    assert (outcome["slots"], outcome["filled"]) == (2, 0)
    assert [row.state for row in lab.rows()] == ["partial"] * 3
    rows = lab.stored()
    assert len(rows) == 6
    assert not any(row.valid_for_policy_eval for row in rows)


@pytest.mark.slow
def test_recordings_that_come_late_are_waited_for(start: Start) -> None:
    lab = start(upload_delay_s=0.5)
    assert lab.collect()["filled"] == 4
    assert {row.state for row in lab.rows()} == {"joined"}


def test_a_robot_that_is_switched_off_is_waited_for(start: Start) -> None:
    lab = start()
    lab.post("/robot_status/widowx_drawer/offline", params={"message": "gripper broken"})
    context = lab.context()
    lab.die_at("gripper broken", context)
    assert lab.listed() == []
    assert {row.state for row in lab.rows()} == {"submitting"}
    lab.post("/robot_status/widowx_drawer/online")
    assert collect.run(context)["filled"] == 4
    assert len(lab.listed()) == 2


def test_a_robot_that_stays_off_ends_the_wait(start: Start) -> None:
    lab = start()
    lab.post(
        "/robot_status/widowx_drawer/offline", params={"message": "gripper broken, password: correcthorse"}
    )
    with pytest.raises(RobotOffline, match="gripper broken"):
        lab.collect(autoeval_job_wait_s=0.05)
    (row,) = lab.rows()
    assert (row.state, row.error_code) == ("failed", "autoeval_robot_offline")
    assert "gripper broken, password: [redacted]" in str(row.error_message)


@pytest.mark.slow
def test_a_job_in_the_queue_is_found_again_after_a_crash_and_not_submitted_twice(start: Start) -> None:
    lab = start(poll_s=3.0)  # its robots look for work so seldom that a crash and a restart fit between
    context = lab.context()
    lab.die_at("queued", context)
    assert len(lab.listed()) == 1
    assert collect.run(context)["filled"] == 4
    assert len(lab.listed()) == len(lab.rows()) == 2
    assert len(lab.stored()) == 4


@pytest.mark.slow
def test_a_job_whose_recordings_were_waited_for_is_joined_after_a_crash(start: Start) -> None:
    lab = start(upload_delay_s=1.0)
    context = lab.context()
    lab.die_at("are published", context)
    assert [row.state for row in lab.rows()] == ["draining"]
    assert lab.stored() == []
    assert collect.run(context)["filled"] == 4
    assert len(lab.rows()) == 2


@pytest.mark.slow
def test_a_crash_between_two_commits_of_a_job_loses_and_doubles_nothing(start: Start) -> None:
    lab = start(classifier_noise=0.5)
    context = lab.context()
    whole = episodes.commit
    kept: list[str] = []

    def commit_one(*arguments: Any, **options: Any) -> Any:
        if len(kept) == 1:
            raise KeyboardInterrupt
        kept.append(arguments[2].manifest.episode_id)
        return whole(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("daemon.phases.sink.episodes.commit", commit_one)
        with pytest.raises(KeyboardInterrupt):
            collect.run(context)
    assert [row.id for row in lab.stored()] == kept
    assert collect.run(context)["filled"] == 4
    assert len(lab.listed()) == 2
    assert len(lab.stored()) == 4
    assert lab.metadata("slot") == ["close_drawer/0", "close_drawer/1", "open_drawer/0", "open_drawer/1"]


@pytest.mark.slow
def test_a_job_that_broke_with_our_gateway_is_told_and_its_slots_are_tried_again(start: Start) -> None:
    lab = start(step_s=0.02)
    lab.lab.request({**SMALL, "tasks": ["open_drawer"]})
    context = lab.context()
    lab.die_at("episode 2 of 2", context)
    until(lambda: lab.listed()[0]["status"] == "failed")
    assert collect.run(context)["filled"] == 2
    failed, joined = lab.rows()
    assert (failed.state, joined.state) == ("failed", "joined")
    assert failed.error_code == "autoeval_job_failed"
    assert "Error" in str(failed.error_message)
    kept = [row for row in lab.stored() if not row.valid_for_policy_eval]
    assert any(row.steps == 10 and row.valid_for_world_model for row in kept)


def test_a_job_that_somebody_cancels_is_closed_and_another_one_fills_its_slots(start: Start) -> None:
    lab = start(poll_s=3.0)  # it has not begun when it is cancelled, also where everything is slow
    lab.lab.request({**SMALL, "tasks": ["open_drawer"]})
    context = lab.context()
    lab.die_at("queued", context)
    (job,) = lab.listed()
    requests.post(
        f"{lab.url}/jobs/{job['id']}/cancel", params={"submitter_id": job["submitter_id"]}, timeout=10
    ).raise_for_status()
    assert collect.run(context)["filled"] == 2
    assert [row.state for row in lab.rows()] == ["cancelled", "joined"]


@pytest.mark.slow
def test_a_job_that_takes_too_long_is_cancelled_there(start: Start) -> None:
    lab = start(step_s=0.3)
    lab.lab.request({**SMALL, "tasks": ["open_drawer"]})
    context = lab.context(autoeval_job_wait_s=0.2)
    assert collect.run(context)["filled"] == 0
    assert [row.state for row in lab.rows()] == ["cancelled"] * 3
    assert {job["status"] for job in lab.listed()} == {"cancelled"}


@pytest.mark.slow
def test_the_time_in_which_people_are_waited_for_is_not_the_jobs(start: Start) -> None:
    lab = start(failed_resets=frozenset({0}), human_answers=False)
    lab.lab.request({**SMALL, "tasks": ["open_drawer"]})
    context = lab.context(autoeval_job_wait_s=3.0, autoeval_poll_s=0.1)
    began, waited = time.monotonic(), []

    def report(share: float, text: str) -> None:
        if "put the scene in order" in text:
            waited.append(time.monotonic() - began)
            if waited[-1] > 4.0:
                lab.post("/emulator/human/0")

    assert collect.run(replace(context, report=report))["slots"] == 2
    assert max(waited) > 4.0
    assert lab.rows()[0].state == "joined"
    with lab.lab.database.read() as session:
        told = events.after(session, 0, kinds=["station_needs_human", "station_goes_on"])
    assert [event.kind for event in told] == ["station_needs_human", "station_goes_on"]


def test_a_job_that_nobody_at_autoeval_helps_is_taken_back_and_the_phase_fails(start: Start) -> None:
    lab = start(failed_resets=frozenset({0}), human_answers=False)
    lab.lab.request({**SMALL, "tasks": ["open_drawer"]})
    with pytest.raises(HumanAwaited, match="widowx_drawer has waited 1 s"):
        lab.collect(human_wait_s=1.0, autoeval_poll_s=0.1)
    (row,) = lab.rows()
    assert row.state in {"cancelled", "failed"}, "AutoEval's robot is free for others"
    assert [job["status"] for job in lab.listed()] != ["running"]


def test_a_job_that_autoeval_forgot_is_lost_and_another_one_is_submitted(start: Start) -> None:
    lab = start(poll_s=0.5)
    lab.lab.request({**SMALL, "tasks": ["open_drawer"]})
    context = lab.context()
    lab.die_at("queued", context)
    fresh = start("fresh")
    context = lab.context(context, autoeval_url=fresh.url, autoeval_hub=fresh.url)
    assert collect.run(context)["filled"] == 2
    assert [row.state for row in lab.rows()] == ["lost", "joined"]


@pytest.mark.slow
def test_the_job_of_an_iteration_that_was_given_up_is_taken_back(start: Start) -> None:
    lab = start(step_s=0.05)
    given_up = lab.lab.iteration_id
    lab.die_at("episode 1 of 2", lab.context())
    with lab.lab.database.write() as session:
        iterations.cancel(session, given_up, now=wall_clock())
    lab.lab.request({**SMALL, "tasks": ["close_drawer"]})
    assert lab.collect()["filled"] == 2
    lab.lab.iteration_id = given_up
    assert {row.state for row in lab.rows()} <= {"cancelled", "failed"}
    assert not any(row.valid_for_policy_eval for row in lab.stored())


def test_an_address_that_is_no_scheduler_is_an_error_before_anything_is_planned(start: Start) -> None:
    lab = start()
    with pytest.raises(SchedulerUnreachable):
        lab.collect(autoeval_url=f"http://127.0.0.1:{free_port()}")
    assert lab.rows() == []


def test_two_workers_cannot_answer_for_the_same_jobs(start: Start) -> None:
    lab = start()
    with pytest.raises(GatewayBusy), collect.autoeval_link(lab.context().settings, None):  # type: ignore[arg-type]
        Gateway(lab.lab.folder / "autoeval" / "gateway")


def test_a_scheduler_without_our_robots_is_told_with_their_names(start: Start) -> None:
    lab = start()
    with running(FakeScheduler()) as other:
        other.robots = [{"robot": "ur5", "is_online": True, "offline_message": None}]
        with pytest.raises(NoRobot, match=r"ur5.*widowx_drawer"):
            lab.collect(autoeval_url=other.url)
