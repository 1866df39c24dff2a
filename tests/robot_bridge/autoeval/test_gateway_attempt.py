"""What is sent and what is recorded, while the policy decides, fails, hangs, lies or forgets."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from robot_bridge.autoeval.attempt import Attempt
from robot_bridge.autoeval.gateway import Gateway
from robot_bridge.autoeval.wire import encode_array
from robot_bridge.autoeval_mg import bridge_state_of_mg, compensate, pose_of_mg
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import PolicyFailed, PolicyUnreachable, UnknownSession
from robot_bridge.frames import encode_jpeg
from tests.robot_bridge.autoeval.gateway_builders import (
    Caller,
    FakePolicy,
    a_job,
    a_picture,
    a_proprio,
    decided,
    refusal,
)

DOWN = PolicyUnreachable(url="u", call="act", waited_s=2, reason="refused")


def opened(gateway: Gateway, policy: FakePolicy, **job: object) -> Caller:
    gateway.open(a_job(**job), policy)
    caller = Caller(gateway)
    assert caller.reset().status_code == 200
    return caller


def the_attempt(gateway: Gateway) -> Attempt:
    gateway.close("job-1")
    (attempt,) = gateway.attempts("job-1")
    return attempt


def hold(gripper: float) -> list[float]:
    return [0.0] * 6 + [gripper]


def test_the_policy_sees_the_very_picture_that_is_recorded_and_the_state_in_bridge_v2(gateway):
    policy = FakePolicy()
    autoeval = opened(gateway, policy)
    sent = [a_proprio(x=0.2 + t / 50) for t in range(3)]
    for t in range(3):
        assert autoeval.act(seed=t, proprio=encode_array(sent[t])).status_code == 200
    attempt = the_attempt(gateway)
    for t, asked in enumerate(policy.asked):
        assert (asked.t, asked.observation.t) == (t, t)
        assert base64.b64decode(asked.observation.jpeg) == attempt.jpegs[t] == encode_jpeg(a_picture(t))
        np.testing.assert_allclose(asked.observation.proprio, bridge_state_of_mg(sent[t]), atol=1e-7)
    np.testing.assert_array_equal(attempt.proprio, sent)


def test_a_chunk_is_given_out_open_loop_and_only_its_first_picture_is_looked_at(gateway):
    policy = FakePolicy(chunk=3)
    actions = opened(gateway, policy).acts(7)
    assert actions == [decided("job-1-0", t) for t in range(7)]
    assert [asked.t for asked in policy.asked] == [0, 3, 6]
    attempt = the_attempt(gateway)
    np.testing.assert_array_equal(attempt.infer_ms, np.array([4.5, 0, 0, 4.5, 0, 0, 4.5], np.float32))


def test_what_was_sent_is_recorded_number_for_number(gateway):
    actions = opened(gateway, FakePolicy()).acts(4)
    attempt = the_attempt(gateway)
    np.testing.assert_array_equal(attempt.sent_action, np.array(actions, dtype=np.float32))
    np.testing.assert_array_equal(attempt.policy_action, attempt.sent_action)
    assert not attempt.fallback.any()
    assert (attempt.rotation, attempt.policy) == ("raw", PolicyRef(name="fake", version="1"))


def test_compensated_actions_are_recorded_beside_what_the_policy_decided(gateway):
    policy = FakePolicy()
    policy.spoil = lambda action: [*action[:3], 0.05, -0.1, 0.15, 1.0]
    autoeval = opened(gateway, policy, rotation="bridge_compensated")
    answer = autoeval.act().json()
    attempt = the_attempt(gateway)
    raw = attempt.policy_action[0]
    np.testing.assert_allclose(raw[3:], [0.05, -0.1, 0.15, 1.0], atol=1e-7)
    np.testing.assert_array_equal(attempt.sent_action[0], compensate(raw, pose_of_mg(a_proprio())))
    np.testing.assert_array_equal(np.array(answer, dtype=np.float32), attempt.sent_action[0])
    assert np.abs(attempt.sent_action[0] - raw)[3:6].max() > 0.01
    assert attempt.rotation == "bridge_compensated"


def test_times_of_receiving_and_sending_are_kept_on_both_clocks(gateway, clock):
    policy = FakePolicy()
    autoeval = opened(gateway, policy)

    def takes_a_moment(action: list[float]) -> list[float]:
        clock.advance(0.25)
        return action

    policy.spoil = takes_a_moment
    for _ in range(3):
        clock.advance(0.5)
        autoeval.act()
    attempt = the_attempt(gateway)
    np.testing.assert_allclose(attempt.t_recv, [100.5, 101.25, 102.0])
    np.testing.assert_allclose(attempt.t_sent - attempt.t_recv, 0.25)
    assert attempt.wall_recv is not None
    np.testing.assert_allclose(np.diff(attempt.wall_recv), 0.75)
    assert attempt.ended_at.timestamp() == pytest.approx(attempt.wall_recv[-1] + 0.25)


def test_a_policy_that_fails_makes_the_arm_hold_with_the_gripper_as_it_was(gateway):
    policy = FakePolicy()
    autoeval = opened(gateway, policy)
    policy.fault = DOWN
    assert autoeval.act().json() == hold(1.0)  # AutoEval opened it
    policy.fault = None
    assert autoeval.act().json() == decided("job-1-0", 0)  # which closes it
    policy.fault = DOWN
    assert autoeval.act().json() == hold(0.0)
    policy.fault = None
    assert autoeval.acts(2) == [decided("job-1-0", 1), decided("job-1-0", 2)]
    attempt = the_attempt(gateway)
    np.testing.assert_array_equal(attempt.fallback, [True, False, True, False, False])
    np.testing.assert_array_equal(attempt.policy_action[2], np.array(hold(0.0), np.float32))
    assert attempt.steps == len(attempt.jpegs) == 5


def test_after_five_holds_in_a_row_the_job_fails_loudly(gateway):
    policy = FakePolicy()
    autoeval = opened(gateway, policy)
    policy.fault = DOWN
    assert [autoeval.act().status_code for _ in range(5)] == [200] * 5
    for _ in range(2):
        assert refusal(autoeval.act()) == (503, "policy_unreachable")
    assert the_attempt(gateway).steps == 5  # what was not answered with an action is no step


def test_one_decision_makes_up_for_all_failures_before_it(gateway):
    policy = FakePolicy()
    autoeval = opened(gateway, policy, max_steps=100)
    for _ in range(3):
        policy.fault = DOWN
        assert [autoeval.act().status_code for _ in range(5)] == [200] * 5
        policy.fault = None
        assert autoeval.act().status_code == 200
    assert int(the_attempt(gateway).fallback.sum()) == 15


def test_a_policy_that_comes_back_after_a_503_is_used_again(gateway):
    policy = FakePolicy()
    autoeval = opened(gateway, policy)
    policy.fault = DOWN
    assert [autoeval.act().status_code for _ in range(6)] == [200] * 5 + [503]
    policy.fault = None
    assert autoeval.acts(1) == [decided("job-1-0", 0)]


@pytest.mark.parametrize(
    "fault",
    [PolicyFailed(url="u", reason="r"), RuntimeError("CUDA"), MemoryError(), TimeoutError()],
    ids=repr,
)
def test_whatever_a_policy_raises_is_a_hold_and_then_a_503(gateway, fault):
    policy = FakePolicy()
    autoeval = opened(gateway, policy)
    policy.fault = fault
    assert [autoeval.act().json() for _ in range(5)] == [hold(1.0)] * 5
    assert refusal(autoeval.act()) == (503, "policy_failed")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda action: [float("nan"), *action[1:]],
        lambda action: [*action[:6], float("inf")],
        lambda action: [1e300, *action[1:]],
        lambda action: action[:6],
        lambda action: [*action, 0.0],
        lambda action: [],
    ],
    ids=["nan", "inf", "too large for float32", "six", "eight", "none"],
)
def test_an_action_that_is_none_never_reaches_autoeval(gateway, spoil):
    policy = FakePolicy()
    autoeval = opened(gateway, policy)
    policy.spoil = spoil
    assert [autoeval.act().json() for _ in range(5)] == [hold(1.0)] * 5
    assert refusal(autoeval.act()) == (503, "policy_failed")
    assert np.isfinite(the_attempt(gateway).sent_action).all()


@pytest.mark.parametrize("rotation", ["raw", "bridge_compensated"])
@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (0, np.pi / 2, 0), (0, -np.pi / 2, 1), (3e38, -3e38, 3e38)], ids=str
)
def test_there_are_no_angles_at_which_a_plausible_arm_gets_no_action(gateway, rotation, angles):
    autoeval = opened(gateway, FakePolicy(), rotation=rotation)
    state = a_proprio()
    state[3:6] = angles
    answer = autoeval.act(proprio=encode_array(state))
    assert answer.status_code == 200
    assert answer.json()[:3] == decided("job-1-0", 0)[:3]
    attempt = the_attempt(gateway)
    assert np.isfinite(attempt.sent_action).all()
    assert not attempt.fallback.any()


def test_a_policy_that_forgot_the_session_is_reset_and_asked_again(gateway):
    policy = FakePolicy()
    autoeval = opened(gateway, policy)
    autoeval.acts(2)
    forgetful = Forgetful(policy)
    assert autoeval.act().json() == decided("job-1-0", 0)  # its own count begins anew
    assert forgetful.forgot == 1
    assert [reset.session for reset in policy.resets] == ["job-1-0", "job-1-0"]
    assert len({reset.seed for reset in policy.resets}) == 1
    assert not the_attempt(gateway).fallback.any()


def test_a_policy_that_forgot_and_came_back_as_another_is_not_believed(gateway):
    policy = FakePolicy()
    autoeval = opened(gateway, policy)
    policy.policy = PolicyRef(name="fake", version="2")
    policy.fault = UnknownSession(session="job-1-0")
    assert [autoeval.act().json() for _ in range(5)] == [hold(1.0)] * 5
    assert refusal(autoeval.act()) == (503, "policy_failed")


class Forgetful:
    """Makes a policy forget its session once, as one that was restarted does."""

    def __init__(self, policy: FakePolicy) -> None:
        self.forgot = 0
        self._act = policy.act
        policy.fault = UnknownSession(session="job-1-0")
        self._policy = policy
        policy.resets = _Watched(policy.resets, self)

    def remembered(self) -> None:
        self.forgot += 1
        self._policy.fault = None


class _Watched(list):  # type: ignore[type-arg]
    def __init__(self, resets: list, forgetful: Forgetful) -> None:  # type: ignore[type-arg]
        super().__init__(resets)
        self._forgetful = forgetful

    def append(self, reset: object) -> None:
        super().append(reset)
        self._forgetful.remembered()


def test_a_hold_is_said_in_the_log_with_job_attempt_and_step(gateway, caplog):
    policy = FakePolicy()
    autoeval = opened(gateway, policy)
    autoeval.acts(2)
    policy.fault = DOWN
    autoeval.act()
    assert "policy did not decide job=job-1 attempt=0 step=2 in_a_row=1" in caplog.text
