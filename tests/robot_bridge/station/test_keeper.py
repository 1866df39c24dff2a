"""The arm as a station keeps it: motors polled, faults kept until maintenance, work followed by rest."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from robot_bridge.conventions import Pose
from robot_bridge.drivers.driver import MotorReading, StepOutcome
from robot_bridge.errors import (
    CameraStale,
    DriverDisconnected,
    EpisodeState,
    MotorFault,
    NeedsHuman,
    Resting,
    UnknownOutcome,
    WaitingHuman,
)
from robot_bridge.station.human import HumanCall
from robot_bridge.station.operations import Operations
from robot_bridge.station.policy import StationPolicy
from tests.robot_bridge.builders import forward
from tests.robot_bridge.station.conftest import Bench, Scripted

OVERLOAD = MotorFault(motor="elbow", fault="overload")


def overloaded() -> tuple[MotorReading, ...]:
    return (MotorReading(name="elbow", torque=True, error="overload"),)


def test_motors_of_an_idle_arm_are_polled_once_a_second(bench):
    bench.tick()
    assert (bench.driver.did("motors"), len(bench.session.keeper.readings)) == (1, 7)
    bench.wait(0.9)
    assert bench.driver.did("motors") == 1
    bench.wait(3.0)
    assert bench.driver.did("motors") == 4


def test_motors_are_polled_during_a_chunk_too(bench):
    bench.driver.at_step = lambda _: bench.clock.advance(0.5)
    bench.lease()
    bench.create(max_steps=8)
    bench.step(0, forward(8, 0.001))
    assert bench.driver.did("motors") == 4


def test_a_motor_found_ill_in_a_poll_stops_a_chunk_before_its_next_action(bench):
    def falls_ill(moves: int) -> None:
        bench.clock.advance(1.0)
        bench.driver.readings = overloaded() if moves == 2 else None

    bench.driver.at_step = falls_ill
    bench.lease()
    bench.create()
    with pytest.raises(MotorFault, match="elbow"):
        bench.step(0, forward(5))
    assert (bench.driver.moves, bench.driver.did("hold")) == (2, 1)
    assert (bench.kept().manifest.outcome, bench.kept().manifest.T) == ("aborted_hw", 2)
    assert [event["episode"] for event in bench.events("motor_fault")] == ["e1"]


def test_a_motor_found_ill_between_two_calls_ends_the_episode(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    bench.driver.readings = overloaded()
    bench.clock.advance(0.5)
    bench.wait(0.6)
    assert bench.state == "FAULT"
    assert bench.kept().manifest.outcome == "aborted_hw"


def test_a_motor_without_torque_is_ill_unless_it_rests(bench):
    bench.driver.torque = False
    bench.tick()
    assert bench.state == "FAULT"


@pytest.mark.parametrize("call", ["reset", "step", "motors"])
@pytest.mark.parametrize("error", [OVERLOAD, DriverDisconnected(interface="toy", call="x", reason="cable")])
def test_after_a_fault_nothing_moves_before_maintenance(bench, call, error):
    bench.lease()
    bench.create()
    bench.driver.fails[call] = [error]
    provoked = {
        "reset": lambda: bench.create(episode_id="e2"),
        "step": lambda: bench.step(0),
        "motors": lambda: bench.tick(1.0),
    }
    with suppress(type(error), UnknownOutcome):
        provoked[call]()
    assert bench.state == "FAULT"
    bench.tick()
    resets = bench.driver.did("reset")
    with pytest.raises(type(error)):
        bench.create(episode_id="e3")
    assert bench.driver.did("reset") == resets
    assert len(bench.events("motor_fault")) == 1
    Operations(bench.session).maintain("reboot_motors")
    assert bench.state == "HOMING"
    assert bench.create(episode_id="e3").next_step == 0
    assert bench.state == "READY"


def test_maintenance_that_did_not_help_leaves_the_fault(bench):
    bench.driver.readings = overloaded()
    bench.tick()
    with pytest.raises(MotorFault):
        Operations(bench.session).maintain("reboot_motors")
    assert bench.state == "FAULT"
    bench.driver.readings = None
    bench.driver.fails["reboot_motors"] = [OVERLOAD]
    with pytest.raises(MotorFault):
        Operations(bench.session).maintain("reboot_motors")
    assert bench.state == "FAULT"
    Operations(bench.session).maintain("reboot_motors")
    assert bench.state == "HOMING"


def test_an_operator_lets_the_motors_sleep_and_wakes_them(bench):
    operations = Operations(bench.session)
    bench.lease()
    bench.create()
    with pytest.raises(EpisodeState, match="maintenance"):
        operations.maintain("sleep")
    bench.session.leases.revoke()
    operations.maintain("sleep")
    bench.wait(2.0)
    assert (bench.state, bench.driver.calls[-1]) == ("RESTING", "motors")
    bench.lease()
    with pytest.raises(Resting):
        bench.create(episode_id="e2")
    operations.maintain("wake")
    assert [event["action"] for event in bench.events("maintenance")] == ["sleep", "wake"]
    bench.create(episode_id="e2")


@pytest.fixture
def hard_worker(tmp_path):
    """A station whose arm needs a second for a step and rests 600 s after 5 s of work."""
    bench = Bench(tmp_path / "spool", policy=StationPolicy(work_s=5.0, rest_s=600.0))
    bench.driver.at_step = lambda _: bench.clock.advance(1.0)
    bench.start()
    bench.lease()
    yield bench
    bench.die()


def test_after_its_work_the_arm_finishes_the_episode_then_rests_then_wakes(hard_worker):
    bench = hard_worker
    bench.create(max_steps=8)
    bench.step(0, forward(6, 0.001))
    bench.tick()
    assert (bench.state, bench.driver.did("sleep")) == ("RUNNING", 0)
    bench.step(6, forward(2, 0.001))
    bench.session.finish("e1", "completed", bench.fence)
    with pytest.raises(Resting):  # also before the watch has come round
        bench.create(episode_id="e2")
    bench.tick()
    assert (bench.state, bench.driver.did("sleep")) == ("RESTING", 1)
    assert bench.events("resting") == [{"worked_s": 8, "rest_s": 600.0, "episode": None}]
    bench.tick(599.0)
    bench.lease()
    with pytest.raises(Resting) as refused:
        bench.create(episode_id="e2")
    assert refused.value.parts["retry_after_s"] == 1
    assert bench.driver.did("wake") == 0
    bench.tick(1.0)
    assert (bench.state, bench.driver.did("wake"), len(bench.events("rested"))) == ("IDLE", 1, 1)
    bench.create(episode_id="e2")
    assert bench.session.keeper.rest.worked_s == 0.0


def test_work_and_rest_go_on_over_a_restart(hard_worker):
    bench = hard_worker
    for episode in ("e1", "e2"):
        bench.create(episode_id=episode, max_steps=3)
        bench.step(0, forward(3), episode=episode)
        bench.session.finish(episode, "completed", bench.fence)
        bench.restart()
        bench.lease()
    bench.tick()
    assert bench.state == "RESTING"
    bench.restart()
    assert (bench.state, bench.driver.torque) == ("RESTING", False)
    bench.tick(600.0)
    assert (bench.state, bench.driver.torque) == ("IDLE", True)


def test_an_arm_that_does_not_wake_is_a_fault(hard_worker):
    bench = hard_worker
    bench.create()
    bench.step(0, forward(6))
    bench.session.finish("e1", "completed", bench.fence)
    bench.tick()
    bench.driver.fails["wake"] = [OVERLOAD]
    bench.tick(601.0)
    assert bench.state == "FAULT"


def test_a_reset_that_needs_a_hand_calls_for_one_and_nothing_moves_before_it_came(bench):
    bench.lease()
    bench.driver.fails["reset"] = [NeedsHuman(reason="the drawer is jammed")]
    with pytest.raises(NeedsHuman):
        bench.create()
    assert (bench.state, bench.session.recording) == ("WAITING_HUMAN", None)
    assert [event["reason"] for event in bench.events("human_needed")] == ["the drawer is jammed"]
    with pytest.raises(WaitingHuman, match="the drawer is jammed"):
        bench.create()
    assert bench.driver.did("reset") == 1
    bench.restart()
    assert bench.state == "WAITING_HUMAN"
    assert bench.driver.did("park") == 0  # somebody's hand may be in the cell
    HumanCall(bench.root).done()  # as the command at the station does
    bench.tick()
    assert (bench.state, len(bench.events("human_done"))) == ("HOMING", 1)
    bench.lease()
    bench.create()


def test_a_frozen_camera_ends_the_episode(tmp_path):
    class Frozen(Scripted):
        def step(self, target: Pose, gripper: float) -> StepOutcome:
            outcome = super().step(target, gripper)
            self.first = getattr(self, "first", outcome.sample.image)
            return replace(outcome, sample=replace(outcome.sample, image=self.first))

    bench = Bench(tmp_path / "spool", driver=Frozen())
    bench.start()
    bench.lease()
    bench.create()
    with pytest.raises(CameraStale, match="same picture"):
        bench.step(0, forward(6, 0.02))
    assert bench.kept().manifest.outcome == "aborted_hw"
    assert bench.session.keeper.camera.dup_frames > 0
    bench.die()


def test_an_old_picture_ends_the_episode(tmp_path):
    class Late(Scripted):
        def step(self, target: Pose, gripper: float) -> StepOutcome:
            outcome = super().step(target, gripper)
            return replace(outcome, sample=replace(outcome.sample, age_s=0.5 if self.moves == 2 else 0.1))

    bench = Bench(tmp_path / "spool", driver=Late())
    bench.start()
    bench.lease()
    bench.create()
    with pytest.raises(CameraStale, match=r"0\.5 s old, at most 0\.4"):
        bench.step(0, forward(3))
    assert bench.kept().manifest.T == 1
    bench.die()


def test_an_arm_that_does_not_follow_is_a_fault(tmp_path):
    class Stuck(Scripted):
        def step(self, target: Pose, gripper: float) -> StepOutcome:
            outcome = super().step(target, gripper)
            far = outcome.sample.proprio.copy()
            far[1] += 0.2
            return replace(outcome, sample=replace(outcome.sample, proprio=far))

    bench = Bench(tmp_path / "spool", driver=Stuck())
    bench.start()
    bench.lease()
    bench.create()
    with pytest.raises(MotorFault):
        bench.step(0, forward(6))
    assert bench.state == "FAULT"
    assert bench.kept().manifest.outcome == "aborted_hw"
    bench.die()


def test_a_success_that_cannot_be_read_leaves_the_episode_completed_and_unlabelled(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    bench.driver.fails["success"] = [CameraStale(camera="primary", age_s=2.0, limit_s=0.4)]
    manifest = bench.session.finish("e1", "completed", bench.fence)
    assert (manifest.outcome, manifest.labels) == ("completed", ())
