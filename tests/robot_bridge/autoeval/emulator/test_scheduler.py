"""Who runs when, what a job's end leaves in its row, and what a dead scheduler leaves behind."""

from __future__ import annotations

import json
import threading

import pytest

from robot_bridge.autoeval.emulator.jobs import JobBook
from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.autoeval.emulator.serve import running_emulator
from tests.robot_bridge.autoeval.emulator.conftest import Emulated, until
from tests.robot_bridge.autoeval.emulator.records import the_run
from tests.robot_bridge.autoeval.emulator.toy_policy import FORWARD, SILENCE, STAY, always
from tests.robot_bridge.toy_driver import ToyDriver


class Gate:
    """Holds a policy's answers until it is opened."""

    def __init__(self, policy) -> None:
        self.open = threading.Event()
        policy.act = self._act

    def _act(self, _: int) -> tuple[int, bytes]:
        self.open.wait(timeout=20)
        return 200, json.dumps(STAY).encode()


def test_a_job_goes_from_queued_over_evaluating_to_completed(emulate, policy):
    gate = Gate(policy)
    emulated = emulate()
    job_id = emulated.submit()
    policy.wait_for(2)
    during = emulated.row(job_id)
    assert (during["status"], during["success_rate"], during["tmux_output"]) == ("evaluating", None, None)
    assert during["executed_at"] >= during["submitted_at"]
    gate.open.set()
    after = emulated.ended(job_id)
    assert (after["status"], after["success_rate"]) == ("completed", 0.0)
    assert after["completed_at"] >= after["executed_at"]
    assert after["wandb_url"].startswith("https://wandb.ai/")
    assert "Episode 0 completed with success: False" in after["tmux_output"]


def test_a_success_is_a_rate_of_one(emulate, policy):
    policy.act = always(FORWARD)
    emulated = emulate()
    assert emulated.ended(emulated.submit(max_steps=10))["success_rate"] == 1.0


def test_jobs_run_by_id_and_not_by_age(emulate, policy):
    gate = Gate(policy)
    emulated = emulate()
    first = emulated.submit(id="m")
    policy.wait_for(2)  # it runs; the others queue behind it
    for job_id in ("z", "k", "a"):
        emulated.submit(id=job_id)
    gate.open.set()
    started = {job_id: emulated.ended(job_id)["executed_at"] for job_id in (first, "z", "k", "a")}
    assert sorted(started, key=started.__getitem__) == ["m", "a", "k", "z"]


def test_a_robot_runs_one_job_at_a_time_and_robots_run_side_by_side(emulate, policy):
    gate = Gate(policy)
    emulated = emulate()
    one, two = emulated.submit(id="1"), emulated.submit(id="2")
    policy.wait_for(2)
    beside = emulated.submit(robot="widowx_sink", task="put_eggplant_blue_sink")
    until(lambda: emulated.status(beside) != "queued")  # the toy has no trays, so that it fails at once
    assert emulated.status(one) == "evaluating"
    assert emulated.status(two) == "queued"
    gate.open.set()
    assert emulated.ended(two)["status"] == "completed"


@pytest.mark.parametrize(
    ("robot", "task"), [("widowx_cloth", "fold_cloth"), ("widowx_drawer", "fold_cloth"), ("toaster", "toast")]
)
def test_a_job_that_nobody_can_run_never_ends_but_can_be_cancelled(emulate, robot, task):
    emulated = emulate()
    job_id = emulated.submit(robot=robot, task=task)
    until(lambda: emulated.status(job_id) == "evaluating")
    behind = emulated.submit(robot=robot)
    assert emulated.status(behind) == "queued"
    emulated.post(f"/jobs/{job_id}/cancel", params={"submitter_id": "user_toy"})
    until(lambda: emulated.status(behind) != "queued")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, b'"error"'), "RuntimeError: the policy server must answer with a list or array of 7 numbers"),
        ((200, b"[0, 0, 0]"), "found shape (3,)"),
        ((503, b'{"code": "policy_error"}'), "policy_error"),
        ((500, b"Internal Server Error"), "JSONDecodeError"),
    ],
    ids=["error", "three numbers", "503", "no JSON"],
)
def test_a_wrong_answer_fails_the_whole_job_and_leaves_a_trace(emulate, policy, answer, says):
    policy.act = lambda _: answer
    emulated = emulate()
    row = emulated.ended(emulated.submit(num_episodes=5))
    assert (row["status"], row["success_rate"], row["wandb_url"]) == ("failed", None, None)
    assert says in row["tmux_output"]
    assert "Traceback" in row["tmux_output"]
    assert len(policy.acts()) == 1


def test_a_policy_server_that_is_not_there_fails_the_job(emulate):
    emulated = emulate()
    row = emulated.ended(emulated.submit(policy_server_port=1))
    assert row["status"] == "failed"
    assert "ConnectionError" in row["tmux_output"]


def test_numbers_that_are_none_fail_the_job_and_not_the_scheduler(emulate):
    emulated = emulate()
    assert emulated.ended(emulated.submit(num_episodes=None))["status"] == "failed"
    assert emulated.ended(emulated.submit())["status"] == "completed"


def test_a_policy_that_takes_too_long_fails_only_where_a_limit_was_set(emulate, policy):
    policy.act = SILENCE
    emulated = emulate(act_timeout_s=0.05)
    row = emulated.ended(emulated.submit())
    assert row["status"] == "failed"
    assert "Timeout" in row["tmux_output"]


def test_a_killed_scheduler_runs_its_job_again_when_it_comes_back(emulate, policy, tmp_path):
    """The episodes of the first run stay on the hub: an adapter meets them beside those of the second."""
    policy.act = lambda index: (0, b"") if index == 3 else (200, json.dumps(STAY).encode())
    with running_emulator(tmp_path, quirks=Quirks(), build=ToyDriver) as url:
        emulated = Emulated(url, policy, tmp_path)
        job_id = emulated.submit(num_episodes=2, max_steps=2)
        policy.wait_for(6)  # second episode, second step: the policy says nothing any more
        emulated.session.close()
    book = JobBook(tmp_path / "database.db")
    row = book.get(job_id)
    book.close()
    assert (row["status"], row["tmux_output"]) == ("evaluating", None)
    first = the_run(tmp_path)
    assert [path.name for path in sorted(first.iterdir())] == ["metadata.json", "traj_0.pkl"]
    policy.act = always(STAY)
    emulated = emulate()
    assert emulated.ended(job_id)["status"] == "completed"
    assert policy.endpoints().count("/reset") == 4
    assert len(list((tmp_path / "tmp").iterdir())) == 2


def test_a_robot_that_worked_long_enough_rests(emulate, policy):
    emulated = emulate(work_s=0.0, rest_s=3600.0)
    assert emulated.ended(emulated.submit())["status"] == "completed"
    calls = len(policy.calls)
    waits = emulated.submit()
    beside = emulated.submit(robot="widowx_sink", task="put_eggplant_blue_sink")
    emulated.ended(beside)  # the other robot has not worked yet, and the scheduler has looked at both
    assert emulated.status(waits) == "queued"
    assert len(policy.calls) == calls


def test_a_rest_is_over_some_day(emulate):
    emulated = emulate(work_s=0.0, rest_s=0.05)
    assert emulated.ended(emulated.submit())["status"] == "completed"
    assert emulated.ended(emulated.submit())["status"] == "completed"


def test_a_cell_is_made_once_per_robot_and_closed_at_the_end(tmp_path, policy):
    made = []

    def build() -> ToyDriver:
        made.append(ToyDriver())
        return made[-1]

    with running_emulator(tmp_path, quirks=Quirks(), build=build) as url:
        emulated = Emulated(url, policy, tmp_path)
        for _ in range(2):
            emulated.ended(emulated.submit())
        emulated.session.close()
        assert [cell.closed for cell in made] == [0]
    assert [cell.closed for cell in made] == [1]
