"""Which attempt runs: it begins with /reset and ends with the next, with silence, or with the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_bridge.autoeval.gateway import Gateway
from robot_bridge.autoeval.gateway_attempt import Received
from robot_bridge.autoeval.gateway_errors import UnknownCapability
from robot_bridge.autoeval.gateway_job import attempt_seed
from robot_bridge.autoeval.gateway_session import ATTEMPTS_MAX, RESET_TRIES, SPARE_STEPS
from robot_bridge.autoeval.wire import read_act
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import PolicyFailed
from tests.robot_bridge.autoeval.gateway_builders import (
    CAPABILITY,
    Caller,
    FakePolicy,
    a_body,
    a_gateway,
    a_job,
    decided,
    refusal,
)
from tests.robot_bridge.builders import Clock

FAILED = PolicyFailed(url="u", reason="loading")
QUICK_S = 0.6  # a deadline whose pauses between resets are short, and that a busy machine still keeps


@pytest.fixture
def gateway(tmp_path: Path, clock: Clock) -> Gateway:
    return a_gateway(tmp_path, clock, idle_s=180.0)


def ended(gateway: Gateway) -> list[tuple[int, int, str]]:
    return [(a.index, a.steps, a.ended_by) for a in gateway.attempts("job-1")]


def test_an_act_before_the_first_reset_is_refused(autoeval, policy):
    assert refusal(autoeval.act()) == (409, "reset_first")
    assert policy.asked == policy.resets == []


def test_the_job_runs_from_its_first_reset_on(gateway, autoeval):
    assert not gateway.begun("job-1")
    autoeval.act()
    autoeval.health()
    assert not gateway.begun("job-1")
    autoeval.reset()
    assert gateway.begun("job-1")


def test_a_reset_that_the_policy_does_not_follow_still_shows_that_the_job_runs(tmp_path, clock):
    gateway = a_gateway(tmp_path, clock, deadline_s=QUICK_S)
    policy = FakePolicy()
    policy.reset_fault = FAILED
    gateway.open(a_job(), policy)
    assert refusal(Caller(gateway).reset()) == (503, "policy_failed")
    assert gateway.begun("job-1")


def test_an_attempt_ends_with_the_next_reset_and_the_last_one_with_the_job(gateway, autoeval):
    for steps in (2, 3, 1):
        autoeval.reset()
        autoeval.acts(steps)
    assert ended(gateway) == [(0, 2, "reset"), (1, 3, "reset")]
    gateway.close("job-1")
    assert ended(gateway) == [(0, 2, "reset"), (1, 3, "reset"), (2, 1, "job")]


def test_a_retry_after_a_motor_failure_is_an_attempt_of_its_own(gateway, autoeval):
    autoeval.reset()
    autoeval.acts(2)
    autoeval.reset()
    assert autoeval.acts(2) == [decided("job-1-1", 0), decided("job-1-1", 1)]
    gateway.close("job-1")
    assert [attempt.index for attempt in gateway.attempts("job-1")] == [0, 1]


def test_resets_without_an_act_between_them_leave_no_attempt(gateway, autoeval):
    for _ in range(3):
        autoeval.reset()
    autoeval.acts(1)
    gateway.close("job-1")
    assert ended(gateway) == [(2, 1, "job")]


def test_every_attempt_is_a_session_with_a_seed_of_its_own_from_the_jobs_seed(autoeval, policy):
    for _ in range(3):
        autoeval.reset()
    assert [reset.session for reset in policy.resets] == ["job-1-0", "job-1-1", "job-1-2"]
    assert [reset.seed for reset in policy.resets] == [attempt_seed(3, index) for index in range(3)]
    assert {reset.instruction for reset in policy.resets} == {"open the drawer"}


@pytest.mark.parametrize("silence_s", [180.0, 180.5])
def test_a_silence_ends_an_attempt_once_it_is_longer_than_allowed(gateway, autoeval, clock, silence_s):
    autoeval.reset()
    autoeval.acts(2)
    clock.advance(silence_s)
    over = silence_s > 180.0
    assert ended(gateway) == ([(0, 2, "idle")] if over else [])
    answer = autoeval.act()
    assert refusal(answer) == (409, "reset_first") if over else answer.status_code == 200


def test_the_silence_is_counted_from_the_last_answer_not_from_the_reset(gateway, autoeval, clock):
    autoeval.reset()
    for _ in range(4):
        clock.advance(100.0)
        autoeval.acts(1)
    clock.advance(100.0)
    assert ended(gateway) == []
    clock.advance(81.0)
    assert ended(gateway) == [(0, 4, "idle")]


def test_a_silence_is_noticed_by_the_next_act_also_when_nobody_looked(gateway, autoeval, clock):
    autoeval.reset()
    autoeval.acts(1)
    clock.advance(500.0)
    assert refusal(autoeval.act()) == (409, "reset_first")
    assert ended(gateway) == [(0, 1, "idle")]


def test_the_connection_test_does_not_end_a_silence(gateway, autoeval, clock):
    autoeval.reset()
    autoeval.acts(1)
    clock.advance(170.0)
    autoeval.health()
    clock.advance(20.0)
    assert ended(gateway) == [(0, 1, "idle")]


def test_after_a_silence_a_reset_begins_the_next_attempt(gateway, autoeval, clock):
    autoeval.reset()
    autoeval.acts(1)
    clock.advance(500.0)
    autoeval.reset()
    autoeval.acts(2)
    gateway.close("job-1")
    assert [(index, steps) for index, steps, _ in ended(gateway)] == [(0, 1), (1, 2)]


def test_an_attempt_has_a_few_steps_to_spare_and_then_no_more(gateway, autoeval):
    autoeval.reset()
    autoeval.acts(10 + SPARE_STEPS)
    for _ in range(2):
        assert refusal(autoeval.act()) == (409, "attempt_full")
    autoeval.reset()
    assert autoeval.act().status_code == 200
    assert ended(gateway) == [(0, 10 + SPARE_STEPS, "reset")]


def test_holding_counts_as_a_step(gateway, autoeval, policy):
    autoeval.reset()
    autoeval.acts(10)
    policy.fault = FAILED
    assert [autoeval.act().status_code for _ in range(6)] == [200] * SPARE_STEPS + [409]


def test_a_job_cannot_fill_the_disk_with_attempts(gateway, autoeval, tmp_path):
    for index in range(1000, 1000 + ATTEMPTS_MAX - 1):
        (tmp_path / "jobs" / "job-1" / "ended" / f"{index:06d}").mkdir(parents=True)
    for _ in range(3):
        assert autoeval.reset().status_code == 200  # those without a step do not count
    autoeval.acts(1)
    assert refusal(autoeval.reset()) == (409, "attempt_full")
    assert refusal(autoeval.act()) == (409, "reset_first")
    assert (2, 1, "reset") in ended(gateway)


def test_a_policy_that_needs_a_moment_is_reset_on_a_later_try(tmp_path, clock):
    gateway = a_gateway(tmp_path, clock, deadline_s=QUICK_S)
    policy = SlowStarter(tries=RESET_TRIES)
    gateway.open(a_job(), policy)
    autoeval = Caller(gateway)
    assert autoeval.reset().status_code == 200
    assert [reset.session for reset in policy.resets] == ["job-1-0"] * RESET_TRIES
    assert autoeval.acts(1) == [decided("job-1-0", 0)]


class SlowStarter(FakePolicy):
    """Follows only the `tries`-th reset."""

    def __init__(self, tries: int) -> None:
        super().__init__()
        self.tries = tries

    def reset(self, request):  # type: ignore[no-untyped-def]
        self.reset_fault = FAILED if len(self.resets) + 1 < self.tries else None
        return super().reset(request)


def test_a_policy_that_is_never_reset_fails_the_job_and_leaves_no_attempt(tmp_path, clock):
    gateway = a_gateway(tmp_path, clock, deadline_s=QUICK_S)
    policy = SlowStarter(tries=RESET_TRIES + 1)
    gateway.open(a_job(), policy)
    autoeval = Caller(gateway)
    assert refusal(autoeval.reset()) == (503, "policy_failed")
    assert len(policy.resets) == RESET_TRIES
    assert refusal(autoeval.act()) == (409, "reset_first")
    assert autoeval.reset().status_code == 200  # it is well by now
    autoeval.acts(1)
    gateway.close("job-1")
    assert ended(gateway) == [(1, 1, "job")]


def test_a_reset_that_the_policy_follows_too_late_is_not_the_next_attempts(tmp_path, clock):
    gateway = a_gateway(tmp_path, clock, deadline_s=0.1)
    policy = FakePolicy()
    policy.reset_on.clear()
    gateway.open(a_job(), policy)
    autoeval = Caller(gateway)
    assert refusal(autoeval.reset()) == (503, "policy_unreachable")
    policy.reset_on.set()
    assert autoeval.reset().status_code == 200
    assert [reset.session for reset in policy.resets] == ["job-1-0", "job-1-1"]


def test_a_request_that_waited_until_its_job_was_closed_is_told_that_nothing_is_here(gateway, policy):
    session = gateway.find(CAPABILITY)
    assert session is not None
    gateway.close("job-1")
    with pytest.raises(UnknownCapability):
        session.reset()
    with pytest.raises(UnknownCapability):
        session.act(read_act(a_body()), Received(t=0.0, wall=0.0))
    assert policy.resets == []


def test_another_policy_in_the_middle_of_a_job_fails_it_loudly(gateway, autoeval, policy):
    autoeval.reset()
    autoeval.acts(1)
    policy.policy = PolicyRef(name="fake", version="2")
    answer = autoeval.reset()
    assert refusal(answer) == (503, "policy_changed")
    assert "pinned to policy fake 1, fake 2 answered" in answer.json()["detail"]
    assert refusal(autoeval.act()) == (409, "reset_first")
    policy.policy = PolicyRef(name="fake", version="1")
    assert autoeval.reset().status_code == 200
    assert ended(gateway) == [(0, 1, "reset")]


def test_the_pin_outlives_a_restart_of_the_gateway(gateway, autoeval, policy, tmp_path, clock):
    autoeval.reset()
    gateway.close("job-1")
    policy.policy = PolicyRef(name="fake", version="2")
    later = a_gateway(tmp_path, clock)
    later.open(a_job(), policy)
    assert refusal(Caller(later).reset()) == (503, "policy_changed")


def test_a_disk_that_fails_stops_the_job_rather_than_driving_unseen(gateway, autoeval, policy, tmp_path):
    autoeval.reset()
    autoeval.acts(2)
    ended_folder = tmp_path / "jobs" / "job-1" / "ended"
    ended_folder.write_text("in the way")
    answer = autoeval.reset()
    assert refusal(answer) == (503, "recording_failed")
    assert str(tmp_path) not in answer.text
    ended_folder.unlink()
    gateway.close("job-1")
    gateway.open(a_job(), policy)
    assert ended(gateway) == [(0, 2, "recovered")]


def test_a_refused_act_is_not_recorded(gateway, autoeval):
    autoeval.reset()
    autoeval.acts(1)
    autoeval.act(a_body(instruction="close the drawer"))
    autoeval.act(b"{}")
    gateway.close("job-1")
    assert ended(gateway) == [(0, 1, "job")]
