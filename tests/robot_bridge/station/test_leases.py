"""Leases: one holder, fences that only rise, time that only the clock argument tells."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from robot_bridge.errors import FenceStale, LeaseConflict, LeaseRequired, UnknownLease
from robot_bridge.protocol import LeaseRequest
from robot_bridge.station.leases import LeaseDesk
from tests.robot_bridge.builders import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(tmp_path: Path, clock: Clock) -> LeaseDesk:
    return LeaseDesk(tmp_path, clock=clock)


def ask(holder: str = "daemon", ttl_s: float = 30.0) -> LeaseRequest:
    return LeaseRequest(holder=holder, ttl_s=ttl_s)


def test_a_lease_says_its_fence_and_how_often_to_report(desk):
    lease = desk.acquire(ask(ttl_s=30.0), key=None)
    assert lease.fence == 1
    assert lease.heartbeat_s == 10.0
    assert lease.station_time == 100.0
    state = desk.state()
    assert (state.holder, state.fence, state.remaining_s) == ("daemon", 1, 30.0)


def test_a_second_holder_waits_until_the_lease_runs_out(desk, clock):
    desk.acquire(ask("first"), key=None)
    clock.advance(29.9)
    with pytest.raises(LeaseConflict, match=r"'first' for 0\.1 s") as refused:
        desk.acquire(ask("second"), key=None)
    assert refused.value.retryable
    clock.advance(0.1)
    assert desk.acquire(ask("second"), key=None).fence == 2
    assert desk.state().holder == "second"


def test_the_same_holder_without_the_key_is_somebody_else(desk):
    desk.acquire(ask(), key=None)
    with pytest.raises(LeaseConflict):
        desk.acquire(ask(), key=None)


def test_the_same_idempotency_key_gets_the_same_lease_again(desk):
    first = desk.acquire(ask(), key="k1")
    assert desk.acquire(ask(), key="k1") == first
    with pytest.raises(LeaseConflict):
        desk.acquire(ask(), key="k2")


def test_a_key_of_a_lease_that_ended_gets_a_new_one(desk, clock):
    first = desk.acquire(ask(), key="k1")
    clock.advance(31)
    again = desk.acquire(ask(), key="k1")
    assert again.fence == first.fence + 1
    assert again.lease_id != first.lease_id


def test_fences_only_rise_also_over_restarts(tmp_path, clock):
    fences = []
    for _ in range(3):
        desk = LeaseDesk(tmp_path, clock=clock)
        lease = desk.acquire(ask(), key=None)
        fences.append(lease.fence)
        desk.release(lease.lease_id)
        fences.append(desk.acquire(ask(), key=None).fence)
    assert fences == [1, 2, 3, 4, 5, 6]


def test_a_lease_does_not_outlive_a_restart(tmp_path, clock):
    before = LeaseDesk(tmp_path, clock=clock).acquire(ask(), key=None)
    desk = LeaseDesk(tmp_path, clock=clock)
    with pytest.raises(LeaseRequired):
        desk.require(before.fence, call="steps")
    with pytest.raises(UnknownLease):
        desk.heartbeat(before.lease_id, 1)


def test_heartbeats_prolong_a_lease_from_when_they_come(desk, clock):
    lease = desk.acquire(ask(ttl_s=10), key=None)
    for seq in range(5):
        clock.advance(9)
        desk.heartbeat(lease.lease_id, seq)
    assert desk.state().remaining_s == 10
    clock.advance(10)
    with pytest.raises(UnknownLease):
        desk.heartbeat(lease.lease_id, 99)


def test_a_heartbeat_that_was_overtaken_does_not_prolong(desk, clock):
    lease = desk.acquire(ask(ttl_s=10), key=None)
    desk.heartbeat(lease.lease_id, 5)
    clock.advance(4)
    desk.heartbeat(lease.lease_id, 5)
    desk.heartbeat(lease.lease_id, 3)
    assert desk.state().remaining_s == 6
    desk.heartbeat(lease.lease_id, 6)
    assert desk.state().remaining_s == 10


def test_a_call_with_the_fence_is_a_sign_of_life(desk, clock):
    lease = desk.acquire(ask(ttl_s=10), key=None)
    clock.advance(9)
    assert desk.require(lease.fence, call="steps") == lease.fence
    assert desk.state().remaining_s == 10


@pytest.mark.parametrize(("fence", "error"), [(None, LeaseRequired), (0, FenceStale), (2, FenceStale)])
def test_a_call_without_the_current_fence_is_refused_and_prolongs_nothing(desk, clock, fence, error):
    desk.acquire(ask(ttl_s=10), key=None)
    clock.advance(4)
    with pytest.raises(error):
        desk.require(fence, call="steps")
    assert desk.state().remaining_s == 6


def test_the_fence_of_an_earlier_holder_is_stale(desk, clock):
    old = desk.acquire(ask("first"), key=None)
    clock.advance(31)
    desk.acquire(ask("second"), key=None)
    with pytest.raises(FenceStale, match="fence 1 is out of date, 2 is current"):
        desk.require(old.fence, call="steps")


def test_nobody_may_move_once_the_lease_ran_out_was_released_or_revoked(desk, clock):
    ends = [lambda _: clock.advance(31), lambda lease: desk.release(lease.lease_id), lambda _: desk.revoke()]
    for end in ends:
        lease = desk.acquire(ask(), key=None)
        desk.require(lease.fence, call="steps")
        end(lease)
        assert desk.state() is None
        with pytest.raises(LeaseRequired):
            desk.require(lease.fence, call="steps")


def test_only_the_holder_releases(desk):
    lease = desk.acquire(ask(), key=None)
    with pytest.raises(UnknownLease):
        desk.release("somebody else's")
    assert desk.state() is not None
    desk.release(lease.lease_id)
    with pytest.raises(UnknownLease):
        desk.release(lease.lease_id)


def test_of_many_who_ask_at_once_one_gets_the_robot(desk):
    outcomes: list[str] = []
    gate = threading.Barrier(8)

    def race(name: str) -> None:
        gate.wait()
        try:
            desk.acquire(ask(name), key=None)
            outcomes.append("granted")
        except LeaseConflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=race, args=(f"daemon-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["granted"] + ["refused"] * 7
