import math

import numpy as np
import pytest
from scipy.stats import beta

from daemon.errors import CountsInvalid
from daemon.statistics import (
    jeffreys_interval,
    right_of_known,
    simultaneous_z,
    stratified_rate,
    wilson_interval,
)


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


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        (0, 10, 0.0, 0.217),  # Brown, Cai and DasGupta 2001, table 5
        (1, 10, 0.011, 0.381),
        (5, 10, 0.224, 0.776),
        (10, 10, 0.783, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_beta_interval_has_the_ends_that_its_source_gives(successes, episodes, low, high):
    interval = jeffreys_interval(successes, episodes)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize("episodes", [1, 9, 96, 5000])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_each_tail_of_the_beta_interval_holds_a_fortieth(episodes, share):
    successes = round(share * episodes)
    interval = jeffreys_interval(successes, episodes)
    posterior = beta(successes + 0.5, episodes - successes + 0.5)
    if successes > 0:
        assert posterior.cdf(interval.low) == pytest.approx(0.025, abs=1e-7)
    if successes < episodes:
        assert posterior.sf(interval.high) == pytest.approx(0.025, abs=1e-7)


@pytest.mark.parametrize(("successes", "episodes"), [(-1, 3), (4, 3)])
def test_the_beta_interval_refuses_counts_that_cannot_be(successes, episodes):
    with pytest.raises(CountsInvalid):
        jeffreys_interval(successes, episodes)


def test_one_task_stratified_is_that_task_with_its_wilson_interval():
    alone, own = stratified_rate([(13, 40)]), wilson_interval(13, 40)
    assert (alone.value, alone.low, alone.high) == pytest.approx((0.325, own.low, own.high))


def test_every_task_weighs_the_same_however_often_it_was_tried():
    """Pooled, 9 of 9 and 0 of 1 are 90 %; as tasks they are half and half."""
    found = stratified_rate([(9, 9), (0, 1)])
    assert found.value == pytest.approx(0.5)
    # Wilson: 9/9 in [0.700855, 1], 0/1 in [0, 0.793450]; 0.5 - 0.299145 / 2 and 0.5 + 0.793450 / 2
    assert found.low == pytest.approx(0.350427, abs=2e-6)
    assert found.high == pytest.approx(0.896725, abs=2e-6)


def test_a_task_that_was_never_judged_is_left_out_of_the_mean():
    assert stratified_rate([(3, 6), (0, 0)]) == stratified_rate([(3, 6)])
    assert stratified_rate([(0, 0)]) is None
    assert stratified_rate([]) is None


def test_the_order_of_tasks_does_not_matter():
    one, other = stratified_rate([(1, 7), (5, 6)]), stratified_rate([(5, 6), (1, 7)])
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_the_interval_of_the_mean_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(5)
    rates, episodes = np.array([0.9, 0.95, 0.4, 0.1]), 12
    drawn = random.binomial(episodes, rates, size=(2000, 4))
    found = [stratified_rate([(int(k), episodes) for k in row]) for row in drawn]
    held = sum(each.low <= rates.mean() <= each.high for each in found) / len(found)
    assert 0.93 <= held <= 0.99


@pytest.mark.parametrize(("looks", "z"), [(0, 1.959964), (1, 1.959964), (2, 2.241403), (30, 3.143980)])
def test_looking_at_many_intervals_makes_each_one_wider(looks, z):
    assert simultaneous_z(looks) == pytest.approx(z, abs=2e-5)


def test_verdicts_are_right_by_the_label_and_known_where_they_were_given():
    counts = {"hits": 5, "false_hopes": 2, "missed": 1, "rightly_failed": 4, "declined": 3}
    assert right_of_known(counts) == (9, 12)
    assert right_of_known(dict.fromkeys(counts, 0)) == (0, 0)
