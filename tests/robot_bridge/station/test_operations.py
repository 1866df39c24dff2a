"""Scene resets with attempts, and what an operator may do: clear a stop by its nonce, say that it is done."""

from __future__ import annotations

import json

import pytest

from robot_bridge.errors import (
    BadRequest,
    CameraStale,
    EpisodeState,
    EStopped,
    FenceStale,
    LeaseRequired,
    MotorFault,
    NeedsHuman,
    UnknownTask,
    WaitingHuman,
)
from robot_bridge.protocol import ResetAnswer, ResetRequest
from robot_bridge.station.operations import Operations
from tests.robot_bridge.station.conftest import Bench

STALE = CameraStale(camera="primary", age_s=2.0, limit_s=0.4)


def reset(bench: Bench, **changes: object) -> ResetAnswer:
    request = ResetRequest(**{"task_id": "open_drawer", **changes})
    return Operations(bench.session).reset(request, bench.fence)


def test_a_scene_is_reset_under_a_lease_and_says_how_many_attempts_it_took(bench):
    with pytest.raises(LeaseRequired):
        reset(bench)
    bench.lease()
    assert reset(bench).attempts == 1
    bench.driver.fails["reset"] = [STALE, STALE]
    assert reset(bench).attempts == 3
    assert (bench.state, bench.driver.did("reset")) == ("IDLE", 4)
    assert [event["attempts"] for event in bench.events("scene_reset")] == [1, 3]
    bench.fence += 1
    with pytest.raises(FenceStale):
        reset(bench)


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_a_scene_that_does_not_come_in_order_is_left_to_a_human(bench, attempts):
    bench.lease()
    bench.driver.fails["reset"] = [STALE] * attempts
    with pytest.raises(NeedsHuman, match="camera primary"):
        reset(bench, max_attempts=attempts)
    assert (bench.state, bench.driver.did("reset")) == ("WAITING_HUMAN", attempts)
    with pytest.raises(WaitingHuman):
        reset(bench)
    Operations(bench.session).human_done("lens cleaned")
    assert [event["note"] for event in bench.events("human_done")] == ["lens cleaned"]
    assert bench.state == "HOMING"
    assert reset(bench).attempts == 1
    assert bench.state == "IDLE"


def test_a_reset_that_needs_a_hand_or_meets_a_fault_is_not_tried_again(bench):
    bench.lease()
    bench.driver.fails["reset"] = [MotorFault(motor="waist", fault="overload")]
    with pytest.raises(MotorFault):
        reset(bench)
    assert (bench.state, bench.driver.did("reset")) == ("FAULT", 1)
    Operations(bench.session).maintain("reboot_motors")
    bench.driver.fails["reset"] = [NeedsHuman(reason="eggplant on the floor")]
    with pytest.raises(NeedsHuman, match="eggplant"):
        reset(bench)
    assert (bench.state, bench.driver.did("reset")) == ("WAITING_HUMAN", 2)


def test_a_stop_between_two_attempts_stops_the_reset(bench):
    bench.lease()
    bench.driver.fails["reset"] = [STALE]
    bench.driver.at_reset = lambda: bench.session.stop("hand in the cell")
    with pytest.raises(EStopped):
        reset(bench)
    assert bench.driver.did("reset") == 1


def test_a_stop_during_a_reset_that_works_out_is_a_stop(bench):
    bench.lease()
    bench.driver.at_reset = lambda: bench.session.stop("hand in the cell")
    with pytest.raises(EStopped):
        reset(bench)
    assert bench.driver.calls[-1] == "hold"
    assert bench.events("scene_reset") == []


def test_a_reset_does_not_disturb_an_episode_that_began_and_lets_one_go_that_did_not(bench):
    bench.lease()
    with pytest.raises(UnknownTask):
        reset(bench, task_id="fold_cloth")
    bench.create()
    reset(bench)
    assert bench.session.progress("e1").state == "finished"
    bench.create(episode_id="e2")
    bench.step(0, episode="e2")
    with pytest.raises(EpisodeState, match="e2 is running"):
        reset(bench)


def test_a_stop_is_cleared_by_the_nonce_on_the_stations_disk_and_the_lease_is_gone(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    bench.session.stop("smoke")
    operations = Operations(bench.session)
    for wrong in ("please", "", "é", "smoke"):
        with pytest.raises(BadRequest, match=r"estop\.json"):
            operations.clear_estop(wrong)
    assert bench.state == "ESTOPPED"
    nonce = json.loads((bench.root / "estop.json").read_text())["nonce"]
    operations.clear_estop(nonce)
    assert (bench.state, bench.session.leases.state()) == ("HOMING", None)
    assert bench.kept().manifest.outcome == "aborted_estop"  # also when nobody had noticed the stop yet
    assert [len(bench.events(kind)) for kind in ("estop", "estop_cleared")] == [1, 1]
    operations.clear_estop(nonce)
    assert len(bench.events("estop_cleared")) == 1
    bench.session.stop("again")
    with pytest.raises(BadRequest):
        operations.clear_estop(nonce)


def test_parking_and_waking_wait_for_the_stop_and_rebooting_does_not(bench):
    bench.session.stop("smoke")
    operations = Operations(bench.session)
    for action in ("sleep", "wake"):
        with pytest.raises(EStopped):
            operations.maintain(action)
    operations.maintain("reboot_motors")
    assert [call for call in bench.driver.calls if call != "motors"] == ["hold", "reboot_motors"]


def test_saying_that_it_is_done_when_nothing_was_asked_does_nothing(bench):
    Operations(bench.session).human_done("")
    assert (bench.state, bench.events("human_done")) == ("IDLE", [])
