"""Callback episodes: the station asks, takes chunks open loop, holds while nobody answers, and ends well."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from robot_bridge.callback import PolicyActAnswer, PolicyActRequest, PolicyReadyAnswer, PolicyResetRequest
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import (
    BadObservation,
    EndpointRefused,
    EpisodeState,
    FenceStale,
    MotorFault,
    PolicyFailed,
    PolicyUnreachable,
    StepOutOfOrder,
    UnknownSession,
)
from robot_bridge.protocol import EpisodeStateAnswer, StepsRequest
from robot_bridge.safety import HELD
from tests.robot_bridge.builders import forward
from tests.robot_bridge.station.conftest import Bench

ENDPOINT = "http://127.0.0.1:9"
DEADLINE_S = 20.0
WEIGHTS, OTHER_WEIGHTS = "sha256:" + "1" * 64, "sha256:" + "2" * 64


class ScriptedPolicy:
    """A policy without HTTP: `errors` come first, one a call; then chunks that move along x."""

    def __init__(self, clock: Callable[[float], None], *, chunk: int = 2) -> None:
        self.ref = PolicyRef(name="scripted", digest=WEIGHTS)
        self.errors: list[Exception] = []
        self.chunk = chunk
        self.asked: list[PolicyActRequest] = []
        self.resets: list[PolicyResetRequest] = []
        self.at_act: Callable[[PolicyActRequest], object] = lambda _: None
        self.actions: list[list[float]] | None = None
        self._advance = clock

    def reset(self, request: PolicyResetRequest) -> PolicyReadyAnswer:
        self.resets.append(request)
        return PolicyReadyAnswer(session=request.session, policy=self.ref, chunk=self.chunk)

    def act(self, request: PolicyActRequest) -> PolicyActAnswer:
        self.asked.append(request)
        self.at_act(request)
        if self.errors:
            self._advance(2.0)  # the deadline of the call
            raise self.errors.pop(0)
        actions = self.actions or forward(self.chunk, 0.001 * (request.t + 1))
        return PolicyActAnswer(session=request.session, t=request.t, actions=actions, infer_ms=7.0)


class Stage:
    """A bench whose policy is scripted, and who waits for the end of an episode."""

    def __init__(self, root: Path) -> None:
        self.bench = Bench(root)
        self.policy = ScriptedPolicy(self.bench.clock.advance)
        self.bench.connect = lambda endpoint: self.called.append(endpoint) or self.policy
        self.called: list[str] = []
        self.bench.start()
        self.bench.lease()

    def create(self, **changes: object) -> None:
        request = {"mode": "callback", "policy_endpoint": ENDPOINT, "max_steps": 5, **changes}
        self.bench.create(**request)

    def start(self) -> EpisodeStateAnswer:
        return self.bench.session.begin_run("e1", self.bench.fence)

    def until_over(self) -> EpisodeStateAnswer:
        """How the episode ended, within a deadline."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            found = self.bench.session.progress("e1")
            if found.state not in {"ready", "running", "held"}:
                return found
            threading.Event().wait(0.002)
        pytest.fail("the episode did not end")

    def run(self) -> EpisodeStateAnswer:
        self.create()
        self.start()
        return self.until_over()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "spool")
    yield stage
    stage.bench.session.close()


def unreachable() -> PolicyUnreachable:
    return PolicyUnreachable(url=ENDPOINT, call="act", waited_s=2.0, reason="nobody listens")


def test_the_station_runs_the_episode_to_its_end_judges_and_keeps_it(stage):
    ended = stage.run()
    assert (ended.state, ended.outcome, ended.next_step) == ("finished", "completed", 5)
    manifest = stage.bench.kept().manifest
    assert (manifest.mode, manifest.T, manifest.policy, len(manifest.labels)) == (
        "callback",
        5,
        stage.policy.ref,
        1,
    )
    assert manifest.valid_for.policy_eval
    assert stage.called == [ENDPOINT]
    reset = stage.policy.resets[0]
    assert (reset.session, reset.instruction, reset.control_hz, reset.seed) == (
        "e1",
        "open the drawer",
        5.0,
        3,
    )


def test_chunks_are_taken_open_loop_and_the_last_one_is_cut_to_what_is_left(stage):
    stage.run()
    assert [request.t for request in stage.policy.asked] == [0, 2, 4]
    steps = stage.bench.kept().steps
    moved = np.float32([0.001, 0.001, 0.003, 0.003, 0.005])
    np.testing.assert_array_equal(steps.raw_action[:, 0], moved)
    np.testing.assert_array_equal(steps.infer_ms, np.float32([7.0] * 5))
    seen = [request.observation for request in stage.policy.asked]
    np.testing.assert_array_equal(np.float32([o.proprio for o in seen]), steps.state[[0, 2, 4]])
    assert [observation.t for observation in seen] == [0, 2, 4]


def test_starting_twice_starts_once(stage):
    gate = threading.Event()
    stage.policy.at_act = lambda _: gate.wait(DEADLINE_S)
    stage.create()
    assert stage.bench.session.progress("e1").state == "ready"
    assert [stage.start().state for _ in range(2)] == ["running", "running"]
    gate.set()
    stage.until_over()
    assert stage.start().state == "finished"
    assert (len(stage.policy.resets), stage.bench.driver.moves) == (1, 5)


def test_a_client_can_neither_step_a_callback_episode_nor_start_a_stepped_one(stage):
    stage.create()
    with pytest.raises(EpisodeState, match="in mode callback"):
        stage.bench.step(0)
    with pytest.raises(FenceStale):
        stage.bench.session.begin_run("e1", 99)
    stage.bench.create(episode_id="e2")
    with pytest.raises(EpisodeState, match="in mode stepped"):
        stage.bench.session.begin_run("e2", stage.bench.fence)
    assert stage.bench.driver.moves == 0


@pytest.mark.parametrize("endpoint", [None, "http://192.0.2.1:9", "http://127.0.0.1@example.org"])
def test_a_policy_elsewhere_is_not_called(stage, endpoint):
    with pytest.raises(EndpointRefused):
        stage.create(policy_endpoint=endpoint)
    assert stage.bench.session.recording is None
    assert stage.bench.driver.did("reset") == 0


def test_while_the_policy_does_not_answer_the_arm_holds_and_the_same_is_asked_again(stage):
    stage.policy.at_act = lambda request: (
        stage.policy.errors.extend([unreachable(), PolicyFailed(url=ENDPOINT, reason="busy")])
        if request.t == 2 and len(stage.policy.asked) == 2
        else None
    )
    assert stage.run().outcome == "completed"
    assert [request.t for request in stage.policy.asked] == [0, 2, 2, 2, 4]
    assert stage.policy.asked[1] == stage.policy.asked[3]
    assert stage.bench.driver.did("hold") == 1
    assert stage.bench.kept().steps.flags.tolist() == [0, 0, HELD, 0, 0]
    assert stage.bench.kept().manifest.metadata["holds"] == "1"
    assert "nobody listens" in stage.bench.events("hold")[0]["why"]
    assert stage.bench.driver.moves == 5


def test_a_policy_that_does_not_answer_for_five_seconds_ends_the_episode(stage):
    stage.policy.at_act = lambda request: (
        stage.policy.errors.append(unreachable()) if request.t == 2 else None
    )
    ended = stage.run()
    assert (ended.outcome, ended.next_step) == ("policy_error", 2)
    assert len(stage.policy.asked) == 1 + 3  # at 0, 2 and 4 s; six have passed then
    manifest = stage.bench.kept().manifest
    assert (manifest.T, manifest.labels, manifest.valid_for.policy_eval) == (2, (), False)


def test_a_policy_that_never_answers_leaves_no_episode_and_its_end_is_told(stage):
    stage.policy.errors = [unreachable() for _ in range(9)]
    ended = stage.run()
    assert (ended.state, ended.outcome, ended.next_step) == ("finished", "policy_error", 0)
    assert stage.bench.session.spool.waiting() == []


@pytest.mark.parametrize(
    "error",
    [UnknownSession(session="e1"), BadObservation(thing="image", expected="a picture", found="none")],
    ids=lambda error: error.code,
)
def test_a_refusal_that_asking_again_does_not_change_ends_the_episode_at_once(stage, error):
    stage.policy.errors = [error]
    assert stage.run().outcome == "policy_error"
    assert len(stage.policy.asked) == 1


@pytest.mark.parametrize("bad", [[[math.nan] * 7], [[0.0] * 6], [[math.inf] + [0.0] * 6]])
def test_garbage_of_the_policy_never_reaches_the_arm(stage, bad):
    stage.policy.actions = bad
    assert stage.run().outcome == "policy_error"
    assert stage.bench.driver.moves == 0


def test_another_policy_than_the_ordered_one_decides_nothing(stage):
    stage.create(policy=PolicyRef(name="ordered", digest=OTHER_WEIGHTS))
    stage.start()
    assert stage.until_over().outcome == "policy_error"
    assert stage.policy.asked == []


def test_a_lease_that_gets_no_heartbeat_ends_a_callback_episode_whatever_it_does(stage):
    stage.bench.driver.at_step = lambda _: stage.bench.clock.advance(11.0)
    ended = stage.run()
    assert ended.outcome == "aborted_lease"
    assert stage.bench.driver.moves == 3


def test_a_stop_ends_a_callback_episode_between_two_actions(stage):
    stage.policy.chunk = 5
    stage.bench.driver.at_step = lambda moves: stage.bench.session.stop("smoke") if moves == 2 else None
    ended = stage.run()
    assert (ended.outcome, ended.next_step) == ("aborted_estop", 2)
    assert stage.bench.driver.calls[-1] == "hold"


def test_a_stop_while_the_policy_thinks_ends_the_episode_and_its_answer_moves_nothing(stage):
    asked, gate = threading.Event(), threading.Event()
    stage.policy.at_act = lambda _: asked.set() or gate.wait(DEADLINE_S)
    stage.create()
    stage.start()
    assert asked.wait(DEADLINE_S)
    stage.bench.session.stop("smoke")
    stage.bench.tick()
    assert stage.bench.session.progress("e1").outcome == "aborted_estop"
    gate.set()
    stage.bench.session._run.stop(DEADLINE_S)
    assert stage.bench.driver.moves == 0


def test_a_link_that_never_comes_back_does_not_keep_the_arm_for_ever(stage):
    asked, gate = threading.Event(), threading.Event()
    stage.policy.at_act = lambda _: asked.set() or gate.wait(DEADLINE_S)
    stage.create()
    stage.start()
    assert asked.wait(DEADLINE_S)
    stage.bench.wait(2.1)
    assert stage.bench.state == "HOLD"
    stage.bench.wait(5.0)
    assert stage.bench.session.progress("e1").outcome == "policy_error"
    gate.set()


def test_a_fault_ends_a_callback_episode_and_keeps_its_steps(stage):
    stage.bench.driver.fails["step"] = [None, None, None, MotorFault(motor="elbow", fault="overload")]
    ended = stage.run()
    assert (ended.outcome, ended.next_step) == ("aborted_hw", 3)
    assert stage.bench.state == "FAULT"


def test_a_client_may_end_a_callback_episode(stage):
    gate, second = threading.Event(), threading.Event()
    stage.policy.at_act = lambda request: request.t == 2 and (second.set() or gate.wait(DEADLINE_S))
    stage.create()
    stage.start()
    assert second.wait(DEADLINE_S)
    assert stage.bench.session.finish("e1", "policy_error", stage.bench.fence).T == 2
    gate.set()
    stage.bench.session._run.stop(DEADLINE_S)
    assert stage.bench.driver.moves == 2


def test_what_was_executed_before_is_not_executed_again(stage):
    """Whatever the loop sends, the bookkeeping is that of a stepped episode."""
    asked, gate = threading.Event(), threading.Event()
    stage.policy.at_act = lambda request: request.t == 2 and (asked.set() or gate.wait(DEADLINE_S))
    stage.create()
    stage.start()
    assert asked.wait(DEADLINE_S)
    recording = stage.bench.session.recording
    with pytest.raises(StepOutOfOrder):
        stage.bench.session.advance(recording, StepsRequest(t=0, actions=forward(2)))
    assert stage.bench.driver.moves == 2
    gate.set()
    assert stage.until_over().outcome == "completed"


def test_a_station_that_ends_keeps_a_callback_episode_that_runs(tmp_path):
    stage = Stage(tmp_path / "spool")
    gate, second = threading.Event(), threading.Event()
    stage.policy.at_act = lambda request: request.t == 2 and (second.set() or gate.wait(DEADLINE_S))
    stage.create()
    stage.start()
    assert second.wait(DEADLINE_S)
    releasing = threading.Timer(0.05, gate.set)
    releasing.start()
    stage.bench.restart()
    assert (stage.bench.kept().manifest.outcome, stage.bench.kept().manifest.T) == ("aborted_lease", 2)
    assert stage.bench.driver.moves == 2
    releasing.join()
    stage.bench.die()
