"""The alarm: what it must notice, what it must not, and the statistic worked by hand."""

import math
import sys

import numpy as np
import pytest

from benchmarks import alarm_errors
from daemon.change_point import FEWEST, LONGEST, THRESHOLD, changes, log_ratios


def test_the_statistic_is_the_log_likelihood_ratio_worked_by_hand():
    """Five successes, then five failures: ten coin flips against two certainties."""
    ratios = log_ratios(np.array([1] * 5 + [0] * 5))
    assert ratios[9, 5] == pytest.approx(10 * math.log(2))
    assert ratios[9].max() == ratios[9, 5]


def test_a_split_of_unequal_rates_agrees_with_the_entropies():
    won = np.array([1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0])  # 5 of 6, then 1 of 6

    def entropy(rate):
        return -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)

    assert log_ratios(won)[11, 6] == pytest.approx(
        12 * entropy(0.5) - 6 * entropy(5 / 6) - 6 * entropy(1 / 6)
    )


def test_sides_with_too_few_episodes_are_not_compared():
    ratios = log_ratios(np.array([0] * FEWEST + [1] * FEWEST))
    assert np.isneginf(ratios[:-1]).all(), "before the last episode one side is always too short"
    assert np.isfinite(ratios[-1]).sum() == 1


@pytest.mark.parametrize("constant", [True, False])
def test_what_never_changes_raises_no_alarm(constant):
    assert changes([constant] * 400) == []


@pytest.mark.parametrize("episodes", [0, 1, 2 * FEWEST - 1])
def test_few_episodes_raise_no_alarm(episodes):
    assert changes([n < episodes / 2 for n in range(episodes)]) == []


def test_a_robot_that_breaks_is_noticed_with_the_place_and_the_counts():
    (change,) = changes([True] * 40 + [False] * 20)
    assert change.fell
    assert change.begin == 0
    assert abs(change.at - 40) < FEWEST
    assert change.before == (min(40, change.at), change.at)
    assert change.after == (max(0, 40 - change.at), change.noticed + 1 - change.at)
    assert change.statistic >= THRESHOLD
    assert change.noticed < 50, "ten failures after forty successes are enough"


def test_the_alarm_comes_as_soon_as_the_threshold_is_reached_and_not_before():
    outcomes = [True] * 40 + [False] * 20
    (change,) = changes(outcomes)
    assert changes(outcomes[: change.noticed]) == []
    assert changes(outcomes[: change.noticed + 1]) == [change]


def test_a_rise_is_a_change_too():
    (change,) = changes([False] * 30 + [True] * 15)
    assert not change.fell


def test_after_an_alarm_what_follows_is_watched_anew():
    found = changes([True] * 40 + [False] * 40 + [True] * 40)
    assert [change.fell for change in found] == [True, False]
    assert abs(found[1].at - 80) < FEWEST
    assert found[1].begin == found[0].noticed + 1, "what raised the alarm is no base for the next"


def test_of_a_long_past_the_newest_episodes_are_looked_at_and_numbered_from_the_first():
    (change,) = changes([True] * (LONGEST + 100) + [False] * 30)
    assert change.begin == 130
    assert abs(change.at - (LONGEST + 100)) < FEWEST


def test_a_lower_threshold_is_never_later():
    random = np.random.default_rng(4)
    outcomes = list(random.random(200) < np.repeat([0.8, 0.4], 100))
    strict, loose = changes(outcomes), changes(outcomes, threshold=5.0)
    assert loose[0].noticed <= strict[0].noticed


def test_false_alarms_are_as_rare_as_the_page_says():
    """At most 1 per 1,000 episodes; the table is printed by the benchmark."""
    chance = np.random.default_rng(1)
    for rate in (0.5, 0.9):
        assert alarm_errors.false_alarms(rate, streams=12, threshold=THRESHOLD, chance=chance) <= 1.0


def test_the_benchmark_prints_a_row_for_every_rate_and_drop(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["alarm_errors", "--streams", "2"])
    monkeypatch.setattr(alarm_errors, "RATES", (0.5,))
    alarm_errors.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 0.5")]
    assert len(rows) == 3


def test_the_least_delay_is_lordens():
    kl = 0.1 * math.log(0.1 / 0.5) + 0.9 * math.log(0.9 / 0.5)
    assert alarm_errors.least_delay((0.5, 0.1), per_thousand=1.0) == pytest.approx(math.log(1000) / kl)
