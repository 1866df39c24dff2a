"""Two success rates beside each other: the numbers of the sources, and what must not depend on the order."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.comparison import (
    episodes_still_needed,
    episodes_to_tell_apart,
    mean_difference,
    rate_difference,
)
from daemon.errors import CountsInvalid

COUNTS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("new", "old", "low", "high"),
    [  # Newcombe 1998, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_the_interval_of_a_difference_is_that_of_its_source(new, old, low, high):
    found = rate_difference(old, new)
    assert found.value == pytest.approx(new[0] / new[1] - old[0] / old[1])
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


@given(COUNTS, COUNTS)
def test_turning_a_comparison_round_turns_its_sign(one, other):
    forth, back = rate_difference(one, other), rate_difference(other, one)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))


@given(COUNTS, COUNTS)
def test_the_difference_lies_in_its_interval(one, other):
    found = rate_difference(one, other)
    assert -1 <= found.low <= found.value <= found.high <= 1


def test_nothing_can_be_said_of_a_policy_that_was_not_judged():
    assert rate_difference((0, 0), (3, 4)) is None
    assert rate_difference((3, 4), (0, 0)) is None
    assert mean_difference([]) is None


def test_only_tasks_that_both_were_judged_at_are_compared():
    shared = ((2, 10), (7, 10))
    assert mean_difference([shared, ((9, 9), (0, 0))]) == mean_difference([shared])


def test_the_mean_difference_weighs_tasks_and_not_episodes():
    """+0.5 in a task that was tried a hundred times, -0.5 in one that was tried four times."""
    found = mean_difference([((25, 100), (75, 100)), ((3, 4), (1, 4))])
    assert found.value == pytest.approx(0.0)
    assert found.low < 0 < found.high


def test_two_tasks_with_the_same_counts_narrow_the_interval_by_the_root_of_two():
    one, two = mean_difference([((3, 10), (9, 10))]), mean_difference([((3, 10), (9, 10))] * 2)
    assert two.value - two.low == pytest.approx((one.value - one.low) / math.sqrt(2))


@pytest.mark.parametrize(
    ("one", "other", "episodes"),
    [
        (0.6, 0.5, 388),  # the textbook's: 387.3 of each, rounded up
        (0.5, 0.6, 388),
        (0.9, 0.8, 199),
        (0.1, 0.6, 14),  # (1.96 √(2 · 0.35 · 0.65) + 0.8416 √(0.09 + 0.24))² / 0.25 = 13.5
        (0.0, 1.0, 2),
    ],
)
def test_how_many_episodes_find_a_difference(one, other, episodes):
    assert episodes_to_tell_apart(one, other) == episodes


def test_equal_policies_are_never_told_apart():
    assert episodes_to_tell_apart(0.4, 0.4) is None
    assert episodes_still_needed((4, 10), (8, 20)) is None


def test_a_difference_that_nobody_could_measure_is_never_found():
    assert episodes_to_tell_apart(0.5, 0.5001) is None
    assert episodes_to_tell_apart(0.5, 0.51) == 39240


def test_episodes_that_are_there_already_need_not_be_run_again():
    assert episodes_still_needed((6, 10), (5, 10)) == 378
    assert episodes_still_needed((60, 100), (5, 10)) == 378, "the policy with fewer is what is missing"
    assert episodes_still_needed((0, 12), (12, 12)) == 0
    assert episodes_still_needed((0, 0), (12, 12)) is None


def test_more_power_takes_more_episodes():
    assert episodes_to_tell_apart(0.5, 0.7, power=0.9) > episodes_to_tell_apart(0.5, 0.7)


def test_counts_that_cannot_be_are_refused():
    with pytest.raises(CountsInvalid):
        rate_difference((5, 4), (1, 4))
