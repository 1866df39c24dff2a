"""Counts told with their uncertainty, and two policies beside each other."""

import pytest

from daemon.comparison import episodes_still_needed, mean_difference, rate_difference
from daemon.statistics import jeffreys_interval, simultaneous_z, stratified_rate, wilson_interval
from daemon.success import difference_record, rate_record
from storage.success_counts import Counted


def counted(*by_task, unlabelled=0, invalid=0):
    return Counted(
        iteration=3,
        task=None,
        policy="p",
        policy_number=7,
        station=None,
        successes=sum(successes for successes, _ in by_task),
        judged=sum(judged for _, judged in by_task),
        unlabelled=unlabelled,
        invalid=invalid,
        robot_seconds=1.0,
        by_task=by_task,
        groups=5,
    )


def test_a_rate_weighs_episodes_and_a_mean_weighs_tasks():
    record = rate_record(counted((9, 9), (0, 1)))
    assert (record["successes"], record["episodes"], record["rate"]) == (9, 10, 0.9)
    assert (record["mean"], record["tasks"]) == (0.5, 2)


def test_every_interval_is_that_of_its_own_method():
    record = rate_record(counted((3, 4), (1, 8)))
    wilson, jeffreys, mean = (
        wilson_interval(4, 12),
        jeffreys_interval(4, 12),
        stratified_rate([(3, 4), (1, 8)]),
    )
    assert (record["wilson_low"], record["wilson_high"]) == (wilson.low, wilson.high)
    assert (record["jeffreys_low"], record["jeffreys_high"]) == (jeffreys.low, jeffreys.high)
    assert (record["mean_low"], record["mean_high"]) == (mean.low, mean.high)


def test_a_wider_confidence_reaches_every_interval():
    own, wide = rate_record(counted((3, 4), (1, 8))), rate_record(counted((3, 4), (1, 8)), z=3.0)
    for name in ("wilson", "jeffreys", "mean"):
        assert wide[f"{name}_low"] < own[f"{name}_low"]
        assert wide[f"{name}_high"] > own[f"{name}_high"]


def test_episodes_that_nobody_judged_are_told_and_say_nothing():
    record = rate_record(counted((0, 0), unlabelled=3, invalid=2))
    assert (record["unlabelled"], record["invalid"], record["episodes"]) == (3, 2, 0)
    assert (record["rate"], record["mean"], record["tasks"]) == (None, None, 0)
    assert (record["wilson_low"], record["wilson_high"]) == (0.0, 1.0)


def test_keys_of_the_group_are_passed_on():
    record = rate_record(counted((1, 2)))
    keys = ("iteration", "task", "policy", "policy_number", "station")
    assert [record[key] for key in keys] == [3, None, "p", 7, None]


ONE = {"drawer": (2, 12), "lid": (10, 12), "sink": (1, 3)}
OTHER = {"drawer": (9, 12), "lid": (10, 12), "basket": (2, 2)}


def test_policies_are_compared_at_tasks_that_both_have():
    record = difference_record(ONE, OTHER)
    assert list(record["tasks"]) == ["drawer", "lid"]
    mean = mean_difference([(ONE["drawer"], OTHER["drawer"]), (ONE["lid"], OTHER["lid"])])
    assert record["mean"] == {"value": mean.value, "low": mean.low, "high": mean.high}


def test_intervals_of_tasks_are_widened_for_as_many_as_there_are():
    record = difference_record(ONE, OTHER)
    wide = rate_difference(ONE["drawer"], OTHER["drawer"], z=simultaneous_z(2))
    own = rate_difference(ONE["drawer"], OTHER["drawer"])
    found = record["tasks"]["drawer"]["difference"]
    assert (found["low"], found["high"]) == (wide.low, wide.high)
    assert found["low"] < own.low
    assert record["corrected_for"] == 2


def test_missing_episodes_are_told_by_task():
    record = difference_record(ONE, OTHER)
    assert record["tasks"]["lid"]["episodes_still_needed"] is None, "equal rates are never told apart"
    needed = episodes_still_needed(ONE["drawer"], OTHER["drawer"])
    assert record["tasks"]["drawer"]["episodes_still_needed"] == needed


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ({"a": (0, 20)}, {"a": (20, 20)}, True),
        ({"a": (20, 20)}, {"a": (0, 20)}, True),
        ({"a": (9, 20)}, {"a": (10, 20)}, False),
        ({"a": (9, 20)}, {"b": (10, 20)}, False),
        ({"a": (0, 0)}, {"a": (10, 20)}, False),
    ],
)
def test_policies_are_told_apart_where_the_interval_leaves_out_zero(one, other, apart):
    assert difference_record(one, other)["told_apart"] is apart


def test_nothing_in_common_is_no_difference():
    record = difference_record({"a": (1, 2)}, {"b": (1, 2)})
    assert (record["tasks"], record["mean"], record["corrected_for"]) == ({}, None, 0)
