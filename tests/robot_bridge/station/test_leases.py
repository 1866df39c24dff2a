"""Leases: one holder, fences that only rise, time that only the clock argument tells."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot_bridge.errors import FenceStale, LeaseConflict, LeaseRequired, UnknownLease
from robot_bridge.protocol import LeaseRequest
from robot_bridge.station.journal import Journal
from robot_bridge.station.leases import FenceNotKept, LeaseDesk
from tests.robot_bridge.builders import Clock, an_episode


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


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    journal = Journal(tmp_path, now=clock.now)
    yield journal
    journal.close()


def test_the_journal_tells_who_had_the_robot_and_how_it_ended(tmp_path, clock, journal):
    desk = LeaseDesk(tmp_path, clock=clock, journal=journal)
    desk.release(desk.acquire(LeaseRequest(holder="a", ttl_s=5.0, purpose="night"), key=None).lease_id)
    desk.acquire(ask("b", ttl_s=5.0), key=None)
    clock.advance(5.0)
    assert desk.state() is None
    assert desk.state() is None
    desk.acquire(ask("c"), key=None)
    desk.revoke()
    desk.revoke()
    told = [(event.kind, event.facts["holder"], event.facts["fence"]) for event in journal.read().events]
    assert told == [
        ("lease_acquired", "a", 1),
        ("lease_released", "a", 1),
        ("lease_acquired", "b", 2),
        ("lease_expired", "b", 2),
        ("lease_acquired", "c", 3),
        ("lease_released", "c", 3),
    ]
    first, released = journal.read(limit=2).events
    assert (first.facts["purpose"], first.facts["ttl_s"], released.facts["revoked"]) == ("night", 5.0, False)
    assert journal.read().events[-1].facts["revoked"] is True


def test_a_lease_that_is_asked_for_twice_is_told_once(tmp_path, clock, journal):
    desk = LeaseDesk(tmp_path, clock=clock, journal=journal)
    for _ in range(2):
        desk.acquire(ask(), key="k")
    assert [event.kind for event in journal.read().events] == ["lease_acquired"]


def fence_of_next(root: Path, clock: Clock, journal: Journal | None = None) -> int:
    desk = LeaseDesk(root, clock=clock, journal=journal, wall=lambda: 1_800_000_000.0)
    return desk.acquire(ask(), key=None).fence


@pytest.mark.parametrize("kept", ['{"fence": 2}', None])
def test_a_fence_file_from_a_backup_does_not_bring_back_a_fence_the_journal_knows(
    tmp_path, clock, journal, kept, caplog
):
    desk = LeaseDesk(tmp_path, clock=clock, journal=journal)
    for _ in range(5):
        desk.release(desk.acquire(ask(), key=None).lease_id)
    path = tmp_path / "fence.json"
    path.unlink() if kept is None else path.write_text(kept)
    assert fence_of_next(tmp_path, clock, journal) == 6
    assert "fence file too low" in caplog.text


def spooled(root: Path, fence: object) -> None:
    folder = root / "episodes" / f"e{fence}"
    folder.mkdir(parents=True)
    manifest = an_episode(metadata={"fence": str(fence)}).manifest
    (folder / "manifest.json").write_bytes(manifest.canonical_json())


def test_a_fence_that_an_episode_remembers_is_not_given_again(tmp_path, clock):
    for fence in (7, 12, 9):
        spooled(tmp_path, fence)
    (tmp_path / "fence.json").write_text('{"fence": 3}')
    assert fence_of_next(tmp_path, clock) == 13


def test_a_fence_that_a_lost_episode_remembers_is_not_given_again(tmp_path, clock):
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "e1.json").write_text('{"episode_id": "e1", "fence": 21}')
    assert fence_of_next(tmp_path, clock) == 22


@pytest.mark.parametrize("content", ["x", "-4", "", "1.5"])
def test_what_is_no_fence_in_a_manifest_is_not_counted(tmp_path, clock, content):
    spooled(tmp_path, content)
    (tmp_path / "episodes" / "torn").mkdir()
    (tmp_path / "episodes" / "torn" / "manifest.json").write_text("{")
    assert fence_of_next(tmp_path, clock) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"fence": "x"}', '{"fence": null}', "\x00\x00"])
def test_a_fence_file_that_does_not_read_back_leads_to_fences_above_all_before(
    tmp_path, clock, content, caplog
):
    before = fence_of_next(tmp_path, clock)
    (tmp_path / "fence.json").write_text(content)
    first = fence_of_next(tmp_path, clock)
    assert first == 1_800_000_001 > before
    assert fence_of_next(tmp_path, clock) == first + 1
    assert "fence file not read" in caplog.text


def test_a_fence_that_cannot_be_kept_is_not_given(tmp_path, clock):
    desk = LeaseDesk(tmp_path, clock=clock)
    blocked = tmp_path / ".fence.json.new"
    blocked.mkdir()  # what is to be written first cannot be
    with pytest.raises(FenceNotKept, match=r"fence\.json") as refused:
        desk.acquire(ask(), key=None)
    assert refused.value.retryable
    assert desk.state() is None
    blocked.rmdir()
    assert desk.acquire(ask(), key=None).fence == 1
