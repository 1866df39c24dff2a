"""Buckets of calls: a burst at once, then a steady rate, each caller by themselves."""

import pytest

from daemon.api.rates import CALLERS_MAX, Buckets


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def buckets(clock):
    return Buckets(per_s=2.0, burst=3.0, clock=lambda: clock[0])


def test_a_burst_is_let_through_and_then_one_waits(buckets):
    assert [buckets.take("ann") for _ in range(5)] == [0, 0, 0, 1, 1]


def test_calls_come_back_at_the_rate_and_never_above_the_burst(buckets, clock):
    for _ in range(3):
        buckets.take("ann")
    clock[0] += 0.5
    assert [buckets.take("ann"), buckets.take("ann")] == [0, 1]
    clock[0] += 1000
    assert [buckets.take("ann") for _ in range(4)] == [0, 0, 0, 1]


def test_one_who_waits_as_told_is_let_through(clock):
    slow = Buckets(per_s=1 / 7, burst=1.0, clock=lambda: clock[0])
    slow.take("ann")
    clock[0] += 0.25
    wait = slow.take("ann")
    assert wait == 7
    clock[0] += wait
    assert slow.take("ann") == 0


def test_being_refused_costs_nothing(buckets, clock):
    for _ in range(50):
        buckets.take("ann")
    clock[0] += 0.5
    assert buckets.take("ann") == 0


def test_one_callers_calls_are_not_anothers(buckets):
    for _ in range(4):
        buckets.take("ann")
    assert buckets.take("bob") == 0


def test_asking_takes_nothing(buckets):
    assert [buckets.wait_s("ann") for _ in range(9)] == [0] * 9
    for _ in range(3):
        buckets.take("ann")
    assert buckets.wait_s("ann") == 1


def test_only_so_many_callers_are_remembered_and_the_latest_are(buckets):
    for number in range(4):
        buckets.take("first" if number < 3 else "second")
    for number in range(CALLERS_MAX - 1):
        buckets.take(f"peer {number}")
    assert buckets.take("first") == 0, "forgotten, so it has a whole burst again"
    assert [buckets.take(f"peer {CALLERS_MAX - 2}") for _ in range(3)] == [0, 0, 1]
