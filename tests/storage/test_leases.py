"""Leases: one holder at a time, a fence that only counts up, a stale holder that is refused."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from storage import leases
from storage.db import Database
from storage.errors import LeaseHeld, LeaseLost

TTL_S = 30.0


def take(database: Database, holder: str, now: datetime, name: str = "robot") -> leases.Lease:
    with database.write() as session:
        return leases.acquire(session, name, holder=holder, ttl_s=TTL_S, now=now)


def after(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)


def test_a_free_lease_is_taken_with_fence_one(database: Database, now: datetime) -> None:
    assert take(database, "ann", now) == leases.Lease(
        name="robot", holder="ann", fence=1, expires_at=after(now, TTL_S)
    )


def test_a_second_holder_waits_until_the_lease_runs_out(database: Database, now: datetime) -> None:
    take(database, "ann", now)
    with pytest.raises(LeaseHeld, match="held by ann until") as caught:
        take(database, "bob", after(now, TTL_S - 0.001))
    assert caught.value.expires_at == after(now, TTL_S)
    assert take(database, "bob", after(now, TTL_S)).fence == 2


def test_the_same_holder_waits_too_because_it_may_be_another_of_that_name(
    database: Database, now: datetime
) -> None:
    take(database, "ann", now)
    with pytest.raises(LeaseHeld):
        take(database, "ann", now)


def test_a_refused_holder_changes_nothing(database: Database, now: datetime) -> None:
    ann = take(database, "ann", now)
    with pytest.raises(LeaseHeld):
        take(database, "bob", after(now, 1))
    with database.write() as session:
        leases.require(session, "robot", ann.fence)


def test_renewing_moves_the_end_and_keeps_the_fence(database: Database, now: datetime) -> None:
    ann = take(database, "ann", now)
    with database.write() as session:
        renewed = leases.renew(session, "robot", fence=ann.fence, ttl_s=TTL_S, now=after(now, 20))
    assert (renewed.fence, renewed.holder) == (ann.fence, "ann")
    with pytest.raises(LeaseHeld):
        take(database, "bob", after(now, 20 + TTL_S - 1))


def test_a_holder_whose_time_ran_out_goes_on_while_nobody_else_came(
    database: Database, now: datetime
) -> None:
    ann = take(database, "ann", now)
    with database.write() as session:
        leases.require(session, "robot", ann.fence)
        leases.renew(session, "robot", fence=ann.fence, ttl_s=TTL_S, now=after(now, 10 * TTL_S))


@pytest.mark.parametrize("act", ["renew", "release", "require"])
def test_a_stale_holder_is_refused_whatever_it_does(database: Database, now: datetime, act: str) -> None:
    ann = take(database, "ann", now)
    bob = take(database, "bob", after(now, TTL_S))
    with (
        pytest.raises(LeaseLost, match="has fence 1, the current one is 2, held by bob"),
        database.write() as session,
    ):
        if act == "renew":
            leases.renew(session, "robot", fence=ann.fence, ttl_s=TTL_S, now=now)
        elif act == "release":
            leases.release(session, "robot", fence=ann.fence, now=now)
        else:
            leases.require(session, "robot", ann.fence)
    with database.write() as session:
        leases.require(session, "robot", bob.fence)


def test_a_fence_from_the_future_is_refused(database: Database, now: datetime) -> None:
    ann = take(database, "ann", now)
    with pytest.raises(LeaseLost), database.write() as session:
        leases.require(session, "robot", ann.fence + 1)


def test_a_released_lease_is_free_at_once_and_its_fence_is_used_up(database: Database, now: datetime) -> None:
    ann = take(database, "ann", now)
    with database.write() as session:
        leases.release(session, "robot", fence=ann.fence, now=now)
    with pytest.raises(LeaseLost, match="held by nobody"), database.write() as session:
        leases.require(session, "robot", ann.fence)
    assert take(database, "bob", now).fence == 2


def test_releasing_twice_is_told(database: Database, now: datetime) -> None:
    ann = take(database, "ann", now)
    with database.write() as session:
        leases.release(session, "robot", fence=ann.fence, now=now)
    with pytest.raises(LeaseLost), database.write() as session:
        leases.release(session, "robot", fence=ann.fence, now=now)


def test_a_revoked_holder_is_refused_and_the_fence_goes_on(database: Database, now: datetime) -> None:
    ann = take(database, "ann", now)
    with database.write() as session:
        leases.revoke(session, "robot", now=now)
    with pytest.raises(LeaseLost), database.write() as session:
        leases.renew(session, "robot", fence=ann.fence, ttl_s=TTL_S, now=now)
    assert take(database, "bob", now).fence == ann.fence + 1


def test_revoking_what_nobody_ever_held_is_no_error(database: Database, now: datetime) -> None:
    with database.write() as session:
        leases.revoke(session, "robot", now=now)
    assert take(database, "ann", now).fence == 1


def test_a_lease_that_never_was_is_not_held(database: Database) -> None:
    with pytest.raises(LeaseLost, match="the current one is 0, held by nobody"), database.write() as session:
        leases.require(session, "robot", 1)


def test_leases_of_different_names_do_not_meet(database: Database, now: datetime) -> None:
    assert take(database, "ann", now, "robot").fence == 1
    assert take(database, "bob", now, "trainer").fence == 1


def test_a_fence_never_repeats_over_many_holders_and_a_new_daemon(database: Database, now: datetime) -> None:
    fences = []
    for turn in range(5):
        fences.append(take(database, f"holder {turn}", after(now, turn * TTL_S)).fence)
        database.dispose()  # as a restart would
    assert fences == [1, 2, 3, 4, 5]


def test_a_rolled_back_taking_never_happened(database: Database, now: datetime) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as session:
        leases.acquire(session, "robot", holder="ann", ttl_s=TTL_S, now=now)
        _ = 1 / 0
    assert take(database, "bob", now).holder == "bob"


def test_of_many_threads_that_want_a_lease_one_gets_it(database: Database, now: datetime) -> None:
    start = threading.Barrier(6)

    def want(holder: int) -> int | None:
        start.wait(timeout=60)
        try:
            return take(database, f"thread {holder}", now).fence
        except LeaseHeld:
            return None

    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(want, range(6)))
    assert sorted(fence for fence in got if fence is not None) == [1]
