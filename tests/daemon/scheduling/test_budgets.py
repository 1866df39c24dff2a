"""Budgets of robot episodes."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.scheduling.budgets import day_spent, iteration_spent, room

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def ago(*hours: float) -> list[datetime]:
    return [NOW - timedelta(hours=each) for each in hours]


@pytest.mark.parametrize(
    ("committed", "most", "frees_in_h"),
    [
        ([], 1, None),
        (ago(3), 2, None),
        (ago(5, 3), 2, 19),  # the older of the two leaves the day first
        (ago(25, 5, 3), 2, 19),
        (ago(24, 3), 2, None),  # exactly a day ago is over
        (ago(9, 7, 5, 3), 2, 19),  # more than allowed, as when the limit was lowered: two must be left
        (ago(5, 3), None, None),
    ],
)
def test_in_any_day_there_are_no_more_episodes_than_allowed(committed, most, frees_in_h):
    found = day_spent(committed, most=most, now=NOW)
    assert (None if found is None else found.until) == (
        None if frees_in_h is None else NOW + timedelta(hours=frees_in_h)
    )


@pytest.mark.parametrize(
    ("recorded", "most", "spent"), [(4, 5, False), (5, 5, True), (6, 5, True), (6, None, False)]
)
def test_an_iteration_that_has_its_episodes_does_not_wait_for_more(recorded, most, spent):
    found = iteration_spent(recorded, most=most)
    assert (found is not None) is spent
    if found is not None:
        assert found.until is None
        assert f"{most} robot episodes" in str(found)


@pytest.mark.parametrize(("recorded", "most", "left"), [(2, 5, 3), (5, 5, 0), (7, 5, 0), (7, None, None)])
def test_a_job_of_many_episodes_is_no_longer_than_what_is_left(recorded, most, left):
    assert room(recorded, most=most) == left
