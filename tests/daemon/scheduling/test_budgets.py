"""Budgets of robot episodes and of device hours."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from daemon.scheduling.budgets import (
    day_spent,
    device_day_spent,
    device_iteration_spent,
    iteration_spent,
    midnight,
    room,
    used_hours,
)

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


def spans(*hours: tuple[float, float]) -> list[tuple[datetime, datetime]]:
    """From so many hours after midnight of NOW's day to so many; below 0 is the day before."""
    return [(midnight(NOW) + timedelta(hours=a), midnight(NOW) + timedelta(hours=b)) for a, b in hours]


@pytest.mark.parametrize(
    ("busy", "hours", "today"),
    [
        ([], 0.0, 0.0),
        ([(1, 3)], 2.0, 2.0),
        ([(-2, 1)], 3.0, 1.0),  # over midnight: an hour of it is today's
        ([(-5, -2)], 3.0, 0.0),
        ([(-5, 0)], 5.0, 0.0),
        ([(1, 3), (2, 4)], 4.0, 4.0),  # two devices at once
        ([(-1, 0.5), (8, 8.25)], 1.75, 0.75),
        ([(3, 1)], 0.0, 0.0),  # a clock that was set back has used nothing
    ],
)
def test_device_hours_are_those_of_every_device_and_of_a_day_its_own_part(busy, hours, today):
    assert used_hours(spans(*busy)) == pytest.approx(hours)
    assert used_hours(spans(*busy), since=midnight(NOW)) == pytest.approx(today)


@pytest.mark.parametrize(
    ("busy", "most", "spent"),
    [
        ([(1, 3)], 2.0, True),
        ([(1, 3)], 2.5, False),
        ([(-2, 1)], 2.0, False),
        ([(-2, 1)], 1.0, True),
        ([(1, 3)], None, False),
        ([], 0.5, False),
    ],
)
def test_a_days_device_hours_come_back_at_midnight(busy, most, spent):
    found = device_day_spent(spans(*busy), most=most, now=NOW)
    assert (None if found is None else found.until) == (datetime(2026, 1, 2, tzinfo=UTC) if spent else None)


def test_the_day_is_the_same_everywhere():
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-9)))
    assert midnight(elsewhere) == midnight(NOW) == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("busy", "most", "spent"),
    [([(-40, -39), (1, 2)], 2.0, True), ([(1, 2)], 2.0, False), ([(1, 9)], None, False)],
)
def test_an_iterations_device_hours_come_back_on_no_day(busy, most, spent):
    found = device_iteration_spent(spans(*busy), most=most)
    assert (found is not None) is spent
    if found is not None:
        assert found.until is None
        assert "GYMNASTD_DEVICE_HOURS_PER_ITERATION" in str(found)
