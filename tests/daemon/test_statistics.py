import math

import pytest

from daemon.errors import CountsInvalid
from daemon.statistics import wilson_interval


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        (5, 10, 0.236593, 0.763407),  # Wilson 1927 by hand: centre 0.5, half 0.263407
        (0, 10, 0.0, 0.277533),  # z^2 / (n + z^2)
        (10, 10, 0.722467, 1.0),
        (1, 1, 0.206543, 1.0),
        (13, 40, 0.200845, 0.479823),
    ],
)
def test_the_interval_equals_the_one_worked_by_hand(successes, episodes, low, high):
    interval = wilson_interval(successes, episodes)
    assert interval.low == pytest.approx(low, abs=1e-5)
    assert interval.high == pytest.approx(high, abs=1e-5)


@pytest.mark.parametrize("episodes", [1, 7, 40])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_both_ends_solve_the_score_equation(episodes, share):
    successes = round(share * episodes)
    z = 1.959964
    for end in (wilson_interval(successes, episodes).low, wilson_interval(successes, episodes).high):
        distance = abs(successes / episodes - end)
        assert distance == pytest.approx(z * math.sqrt(end * (1 - end) / episodes), abs=1e-9)


def test_no_episode_says_nothing():
    assert (wilson_interval(0, 0).low, wilson_interval(0, 0).high) == (0.0, 1.0)


def test_more_episodes_at_the_same_rate_narrow_the_interval():
    widths = [wilson_interval(n // 2, n).high - wilson_interval(n // 2, n).low for n in (4, 16, 64, 256)]
    assert widths == sorted(widths, reverse=True)


def test_failures_mirror_successes():
    one, other = wilson_interval(3, 12), wilson_interval(9, 12)
    assert one.low == pytest.approx(1 - other.high)
    assert one.high == pytest.approx(1 - other.low)


def test_a_wider_z_gives_a_wider_interval():
    assert wilson_interval(5, 10, z=2.575829).low < wilson_interval(5, 10).low


@pytest.mark.parametrize(("successes", "episodes"), [(-1, 3), (4, 3), (1, 0), (0, -1)])
def test_counts_that_cannot_be_are_refused(successes, episodes):
    with pytest.raises(CountsInvalid) as refused:
        wilson_interval(successes, episodes)
    assert refused.value.code == "counts_invalid"
    assert str(successes) in str(refused.value)
