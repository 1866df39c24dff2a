"""The dead-man, from verdicts to an arm that holds: waits, holds, goes on, and at last ends the episode."""

from __future__ import annotations

import numpy as np
import pytest

from robot_bridge.conventions import Pose
from robot_bridge.drivers.driver import StepOutcome
from robot_bridge.errors import DriverDisconnected, EpisodeState
from robot_bridge.safety import HELD
from robot_bridge.station.deadman import DeadMan
from robot_bridge.station.policy import StationPolicy
from tests.robot_bridge.builders import forward
from tests.robot_bridge.station.conftest import Bench, Scripted

HOLD_STILL = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("waited_s", "verdict"),
    [(0.0, "wait"), (0.599, "wait"), (0.6, "hold"), (4.999, "hold"), (5.0, "abort"), (1e6, "abort")],
)
def test_it_waits_then_holds_then_ends(waited_s, verdict):
    assert DeadMan(hold_after_s=0.6, abort_after_s=5.0).verdict(waited_s) == verdict


def test_an_arm_that_gets_no_step_for_600_ms_holds_and_the_journal_says_so(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    bench.tick(0.55)
    assert (bench.state, bench.driver.did("hold")) == ("RUNNING", 0)
    bench.tick(0.06)
    assert (bench.state, bench.driver.did("hold")) == ("HOLD", 1)
    assert bench.session.progress("e1").state == "held"
    assert [event["next_step"] for event in bench.events("hold")] == [1]
    bench.wait(2.0)
    assert bench.driver.did("hold") == 1


def test_the_next_step_resumes_and_carries_the_flag_that_the_one_after_it_does_not(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    bench.tick(1.0)
    answer = bench.step(1, forward(2))
    assert [step.flags & HELD for step in answer.steps] == [HELD, 0]
    assert bench.state == "RUNNING"
    assert [event["step"] for event in bench.events("resumed")] == [1]
    bench.tick(0.55)  # counted from the end of that step
    assert bench.state == "RUNNING"
    assert bench.session.finish("e1", "completed", bench.fence).metadata["holds"] == "1"
    assert bench.kept().steps.flags.tolist() == [0, HELD, 0]


def test_time_that_a_step_takes_is_no_waiting(bench):
    bench.driver.at_step = lambda _: bench.clock.advance(3.0)
    bench.lease()
    bench.create()
    bench.step(0)
    bench.tick(0.5)
    assert bench.state == "RUNNING"


def test_an_episode_that_gets_no_step_for_five_seconds_ends_and_is_kept(bench):
    bench.lease()
    bench.create()
    bench.step(0, forward(2))
    bench.wait(4.9)
    assert bench.state == "HOLD"
    bench.wait(0.15)
    assert bench.state == "IDLE"
    manifest = bench.kept().manifest
    assert (manifest.outcome, manifest.T, manifest.metadata["holds"]) == ("timeout_client", 2, "1")
    assert bench.session.leases.state() is not None
    with pytest.raises(EpisodeState, match="finished"):
        bench.step(2)
    assert bench.driver.moves == 2


def test_an_episode_that_waits_for_its_first_action_waits_as_long_as_its_lease(bench):
    bench.lease()
    bench.create()
    bench.wait(40.0)
    assert (bench.state, bench.driver.did("hold")) == ("READY", 0)
    bench.step(0)
    bench.tick(0.7)
    assert bench.state == "HOLD"


def test_the_step_after_a_hold_starts_where_the_arm_held(tmp_path):
    """A hold stops the arm somewhere on its way: that pose, not the old target, is moved on from."""

    class Sags(Scripted):
        def hold(self) -> None:
            super().hold()
            self._target = Pose(self._target.position - np.array([0.0, 0.0, 0.03]), self._target.rotation)

        def step(self, target: Pose, gripper: float) -> StepOutcome:
            self.told = target
            return super().step(target, gripper)

    bench = Bench(tmp_path / "spool", driver=Sags())
    bench.start()
    bench.lease()
    bench.create()
    before = bench.step(0, forward(1)).steps[-1].target_pose
    bench.tick(1.0)
    after = bench.step(1, forward(1)).steps[-1].target_pose
    assert after[0] == pytest.approx(before[0] + 0.01)
    assert after[2] == pytest.approx(before[2] - 0.03)
    assert bench.driver.told.position[2] == pytest.approx(before[2] - 0.03)
    bench.die()


def test_an_arm_that_cannot_hold_ends_the_episode_and_is_a_fault(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    gone = DriverDisconnected(interface="toy", call="hold", reason="cable")
    bench.driver.fails["hold"] = [gone]
    bench.tick(0.7)
    assert bench.state == "FAULT"
    assert bench.kept().manifest.outcome == "aborted_hw"


def test_no_episode_runs_longer_than_any_may_however_busy_it_is(tmp_path):
    bench = Bench(tmp_path / "spool", policy=StationPolicy(max_episode_s=20.0))
    bench.start()
    bench.lease()
    bench.create(max_steps=100)
    for t in range(40):
        bench.step(t, [HOLD_STILL])
        bench.tick(0.5)
        assert (bench.session.recording is None) is (t == 39)
    assert bench.kept().manifest.outcome == "timeout_client"
    bench.die()


def test_an_episode_runs_out_of_its_time_between_two_actions_of_a_chunk(bench):
    def slow(_: int) -> None:
        for _ in range(12):  # the daemon's heartbeats go on
            bench.session.leases.require(bench.fence, call="heartbeat")
            bench.clock.advance(25.0)

    bench.driver.at_step = slow
    bench.lease()
    bench.create()
    with pytest.raises(EpisodeState, match="overdue"):
        bench.step(0, forward(5))
    assert bench.driver.moves == 2
    assert bench.kept().manifest.outcome == "timeout_client"
