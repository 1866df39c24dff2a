"""What ends an episode unasked: the emergency stop, a lost lease; and what the arm does afterwards."""

from __future__ import annotations

import threading

import pytest

from robot_bridge.episode import Episode
from robot_bridge.errors import (
    CameraStale,
    DriverDisconnected,
    EpisodeState,
    EStopped,
    LeaseRequired,
    MotorFault,
    SpoolDiskFull,
    UnknownLease,
    UnknownOutcome,
)
from robot_bridge.events import Fact
from robot_bridge.protocol import LeaseRequest
from robot_bridge.station.estop import EStopLatch
from robot_bridge.station.journal import Journal
from robot_bridge.station.spool import Spool
from tests.robot_bridge.builders import forward
from tests.robot_bridge.station.conftest import Bench


def press(bench: Bench) -> None:
    """The emergency stop, from a thread of its own, as the HTTP call comes; it must return at once."""
    stopper = threading.Thread(target=bench.session.stop, args=("hand in the cell",))
    stopper.start()
    stopper.join(timeout=10.0)
    assert not stopper.is_alive()


def test_a_stop_during_a_chunk_lets_no_further_action_start_then_holds(bench):
    bench.driver.at_step = lambda moves: press(bench) if moves == 2 else None
    bench.lease()
    bench.create()
    with pytest.raises(EStopped, match="hand in the cell"):
        bench.step(0, forward(5))
    assert (bench.driver.moves, bench.driver.did("hold")) == (2, 1)
    manifest = bench.kept().manifest
    assert (manifest.outcome, manifest.T) == ("aborted_estop", 2)
    assert bench.session.leases.state() is None
    assert bench.state == "ESTOPPED"


def test_a_stop_during_the_last_action_of_a_chunk_takes_effect_before_anything_else(bench):
    bench.driver.at_step = lambda moves: press(bench) if moves == 2 else None
    bench.lease()
    bench.create()
    assert bench.step(0, forward(2)).next_step == 2
    assert bench.driver.did("hold") == 1
    assert bench.session.recording is None


def test_a_stop_during_a_reset_leaves_nothing_open_and_the_arm_holding(bench):
    bench.driver.at_reset = lambda: press(bench)
    bench.lease()
    with pytest.raises(EStopped):
        bench.create()
    assert bench.session.recording is None
    assert bench.driver.calls[-1] == "hold"
    assert bench.session.leases.state() is None
    assert not (bench.root / "open.json").exists()


def test_a_stop_of_an_idle_arm_holds_it_once_and_takes_the_lease(bench):
    bench.lease()
    press(bench)
    press(bench)
    assert bench.session.woken.is_set()
    bench.tick()
    bench.tick()
    assert bench.driver.did("hold") == 1
    assert bench.session.leases.state() is None
    assert [event["reason"] for event in bench.events("estop")] == ["hand in the cell"]


def test_a_stop_waits_neither_for_a_motion_nor_for_the_journal(tmp_path):
    written = threading.Event()

    class Stuck(Journal):
        def append(self, kind: str, *, episode_id: str | None = None, **facts: Fact) -> int:
            assert kind != "estop" or written.wait(10.0)
            return super().append(kind, episode_id=episode_id, **facts)

    bench = Bench(tmp_path / "spool", journals=Stuck)
    bench.start()
    with bench.session.motion:
        press(bench)
        with pytest.raises(EStopped):
            bench.session.estop.require_clear()
    assert bench.events("estop") == []
    written.set()
    bench.tick()
    assert len(bench.events("estop")) == 1
    bench.die()


def test_an_arm_that_cannot_hold_does_not_keep_the_stop_from_ending_the_episode(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    bench.driver.fails["hold"] = [MotorFault(motor="elbow", fault="overload")]
    press(bench)
    bench.tick()
    assert bench.kept().manifest.outcome == "aborted_estop"
    assert bench.state == "ESTOPPED"


def test_after_a_stop_was_cleared_at_the_station_only_a_reset_moves_the_arm(bench):
    bench.lease()
    press(bench)
    bench.tick()
    EStopLatch(bench.root).clear()  # as the command at the station does
    bench.tick()
    assert (bench.state, len(bench.events("estop_cleared"))) == ("HOMING", 1)
    bench.lease()
    bench.create()
    assert (bench.state, bench.driver.calls[-1]) == ("READY", "reset")


def test_a_stop_that_the_disk_did_not_take_is_written_as_soon_as_it_does(bench):
    obstacle = bench.root / ".estop.json.new"
    obstacle.mkdir()
    press(bench)
    bench.tick()
    assert bench.state == "ESTOPPED"
    obstacle.rmdir()
    bench.tick()
    assert EStopLatch(bench.root).read() == {
        "since": bench.clock.now().isoformat(),
        "reason": "hand in the cell",
    }


def test_a_lost_lease_lets_the_step_end_then_holds_ends_and_parks_later(bench):
    bench.driver.at_step = lambda moves: bench.clock.advance(31.0) if moves == 2 else None
    bench.lease()
    bench.create()
    with pytest.raises(LeaseRequired):
        bench.step(0, forward(5))
    assert (bench.driver.moves, bench.driver.did("hold")) == (2, 1)
    assert bench.kept().manifest.outcome == "aborted_lease"
    bench.tick()
    bench.wait(29.0)
    assert (bench.driver.did("park"), bench.events("parked")) == (0, [])
    bench.wait(1.5)
    assert (bench.driver.did("park"), len(bench.events("parked"))) == (1, 1)
    bench.wait(60.0)
    assert bench.driver.did("park") == 1


def test_the_next_holder_who_comes_in_time_keeps_the_arm_from_being_parked(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    bench.wait(30.1, heartbeats=False)
    assert bench.session.leases.state() is None
    bench.lease("second")
    bench.wait(60.0)
    assert bench.driver.did("park") == 0


def test_releasing_the_lease_ends_the_episode_and_parks_at_once(bench):
    lease = bench.session.leases.acquire(LeaseRequest(holder="daemon"), key=None)
    bench.fence = lease.fence
    bench.create()
    bench.step(0)
    bench.session.release(lease.lease_id)
    assert bench.driver.calls[-2:] == ["hold", "park"]
    assert bench.kept().manifest.outcome == "aborted_lease"
    with pytest.raises(UnknownLease):
        bench.session.release(lease.lease_id)


def test_an_arm_that_never_left_its_place_is_not_parked(bench):
    lease = bench.session.leases.acquire(LeaseRequest(holder="daemon"), key=None)
    bench.session.release(lease.lease_id)
    bench.wait(40.0)
    assert bench.driver.did("park") == 0


def test_a_stopped_or_faulty_arm_is_not_parked(bench):
    bench.lease()
    bench.create()
    press(bench)
    bench.tick()
    bench.wait(40.0)
    assert bench.driver.did("park") == 0
    EStopLatch(bench.root).clear()
    bench.driver.fails["park"] = [MotorFault(motor="elbow", fault="overload")]
    bench.wait(40.0)
    assert bench.driver.did("park") == 1
    assert bench.state == "FAULT"


def test_a_lease_that_ran_out_during_the_reset_is_no_open_episode(bench):
    bench.driver.at_reset = lambda: bench.clock.advance(31.0)
    bench.lease()
    with pytest.raises(LeaseRequired):
        bench.create()
    assert bench.session.recording is None


def test_a_camera_that_goes_stale_ends_the_episode_and_is_no_reason_for_maintenance(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    bench.driver.fails["step"] = [CameraStale(camera="primary", age_s=2.0, limit_s=0.4)]
    with pytest.raises(CameraStale):
        bench.step(1)
    manifest = bench.kept().manifest
    assert (manifest.outcome, manifest.T, manifest.valid_for.world_model) == ("aborted_hw", 1, True)
    assert bench.driver.calls[-1] == "hold"
    assert [event["episode"] for event in bench.events("camera_fault")] == ["e1"]
    assert bench.state == "IDLE"
    bench.create(episode_id="e2")


def test_looking_at_a_station_whose_disk_is_full_works_and_the_episode_waits(tmp_path):
    class Full(Spool):
        room = False

        def put(self, episode: Episode) -> None:
            if not self.room:
                raise SpoolDiskFull(path="spool", reason="no room")
            super().put(episode)

    bench = Bench(tmp_path / "spool", spools=Full)
    bench.start()
    bench.lease()
    bench.create()
    bench.step(0, forward(2))
    with pytest.raises(SpoolDiskFull):
        bench.session.finish("e1", "completed", bench.fence)
    bench.session.settle()
    assert bench.state == "JUDGING"
    with pytest.raises(SpoolDiskFull):
        bench.tick(31.0)  # neither the dead-man nor the lease changes how it ended
    with pytest.raises(SpoolDiskFull):
        bench.step(2)
    bench.lease()
    with pytest.raises(SpoolDiskFull):
        bench.session.finish("e1", "policy_error", bench.fence)
    Full.room = True
    bench.tick()
    manifest = bench.kept().manifest
    assert (manifest.outcome, manifest.T, len(manifest.labels)) == ("completed", 2, 1)
    bench.die()


def test_a_disk_that_takes_no_note_of_the_work_done_does_not_stop_a_motion(bench):
    (bench.root / ".rest.json.new").mkdir()  # writing fails
    bench.driver.at_step = lambda _: bench.clock.advance(20.0)
    bench.lease()
    bench.create()
    assert bench.step(0, forward(3)).next_step == 3
    assert bench.session.keeper.rest.worked_s == pytest.approx(60.0)


def test_every_change_of_an_episode_is_in_the_journal_in_order(bench):
    bench.lease()
    bench.create()
    bench.step(0, forward(3, 0.2))
    bench.tick(0.7)
    bench.step(3)
    digest = bench.session.finish("e1", "completed", bench.fence).digest
    bench.session.acknowledge("e1", digest)
    bench.session.acknowledge("e1", digest)
    told = [(e.kind, e.episode_id) for e in bench.session.station.journal.read().events]
    assert told == [
        ("station_started", None),
        ("lease_acquired", None),
        ("episode_opened", "e1"),
        ("episode_started", "e1"),
        ("hold", "e1"),
        ("resumed", "e1"),
        ("clips", "e1"),
        ("episode_finished", "e1"),
        ("episode_acknowledged", "e1"),
    ]
    assert bench.events("clips")[0]["xyz"] == 3
    assert bench.events("episode_finished")[0]["outcome"] == "completed"


def test_an_arm_that_went_silent_in_a_step_is_an_unknown_outcome_for_that_step_for_ever(bench):
    bench.lease()
    bench.create()
    bench.step(0, forward(2))
    bench.driver.fails["step"] = [DriverDisconnected(interface="toy", call="step", reason="cable")]
    for _ in range(2):
        with pytest.raises(UnknownOutcome, match="nobody knows whether step 2 moved"):
            bench.step(2)
    assert bench.state == "FAULT"
    manifest = bench.kept().manifest
    assert (manifest.outcome, manifest.T, manifest.metadata["unknown_step"]) == ("aborted_hw", 2, "2")
    with pytest.raises(EpisodeState):
        bench.step(1)
    bench.restart()
    bench.lease()
    with pytest.raises(UnknownOutcome, match="nobody knows whether step 2 moved"):
        bench.step(2)
    assert bench.driver.moves == 3


def test_an_arm_that_went_silent_in_the_very_first_step_is_not_forgotten(bench):
    bench.lease()
    bench.create()
    bench.driver.fails["step"] = [DriverDisconnected(interface="toy", call="step", reason="cable")]
    for _ in range(2):
        with pytest.raises(UnknownOutcome, match="nobody knows whether step 0 moved"):
            bench.step(0)
    assert bench.session.progress("e1").state == "lost"
    assert bench.driver.moves == 1
