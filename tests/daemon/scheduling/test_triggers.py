"""Due times: cron as cron means it, also in the two nights in which clocks change."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from daemon.scheduling.triggers import (
    AfterPrevious,
    CronTimes,
    Interval,
    first_due,
    next_due,
    read_trigger,
)

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)  # a Thursday


def times(expression: str, *, since: str, count: int, timezone: str = "UTC") -> list[str]:
    trigger, after, found = (
        CronTimes(expression=expression, timezone=timezone),
        datetime.fromisoformat(since),
        [],
    )
    for _ in range(count):
        after = next_due(trigger, before=after, now=after)
        assert after is not None
        found.append(f"{after:%m-%d %H:%M}")
    return found


def weekdays(field: str) -> list[str]:
    """The names of the days of one week on which it is due."""
    trigger, after, found = CronTimes(expression=f"0 12 * * {field}"), datetime(2026, 1, 4, tzinfo=UTC), []
    while (after := next_due(trigger, before=after, now=after)) < datetime(2026, 1, 11, tzinfo=UTC):
        found.append(f"{after:%a}".lower())
    return found


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("0", ["sun"]),
        ("7", ["sun"]),
        ("1", ["mon"]),
        ("1-5", ["mon", "tue", "wed", "thu", "fri"]),
        ("MON-FRI", ["mon", "tue", "wed", "thu", "fri"]),
        ("fri-mon", ["sun", "mon", "fri", "sat"]),
        ("0-4", ["sun", "mon", "tue", "wed", "thu"]),
        ("5-7", ["sun", "fri", "sat"]),
        ("*/2", ["sun", "tue", "thu", "sat"]),
        ("1-5/2", ["mon", "wed", "fri"]),
        ("mon,wed", ["mon", "wed"]),
        ("*", ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
    ],
)
def test_weekdays_are_those_of_cron_and_not_of_the_library(field, days):
    assert weekdays(field) == days


def test_a_nightly_job_runs_at_its_local_time_through_the_year():
    found = times("0 20 * * *", since="2026-03-28T12:00:00+00:00", count=3, timezone="Europe/Berlin")
    assert found == ["03-28 19:00", "03-29 18:00", "03-30 18:00"]


def test_in_the_hour_that_is_left_out_a_job_runs_once_an_hour_later():
    found = times("30 2 * * *", since="2026-03-28T12:00:00+00:00", count=2, timezone="Europe/Berlin")
    assert found == ["03-29 01:30", "03-30 00:30"], "half past three by the clock, then half past two again"


def test_in_the_hour_that_comes_twice_a_nightly_job_runs_once():
    found = times("30 2 * * *", since="2026-10-24T12:00:00+00:00", count=2, timezone="Europe/Berlin")
    assert found == ["10-25 00:30", "10-26 01:30"]


def test_in_the_hour_that_comes_twice_an_hourly_job_runs_in_both():
    found = times("0 * * * *", since="2026-10-24T23:30:00+00:00", count=4, timezone="Europe/Berlin")
    assert found == ["10-25 00:00", "10-25 01:00", "10-25 02:00", "10-25 03:00"]


def test_in_the_hour_that_is_left_out_an_hourly_job_leaves_nothing_out():
    found = times("0 * * * *", since="2026-03-28T23:30:00+00:00", count=3, timezone="Europe/Berlin")
    assert found == ["03-29 00:00", "03-29 01:00", "03-29 02:00"]


def test_a_due_time_is_after_the_instant_that_is_asked_about():
    assert times("0 12 * * *", since="2026-01-01T12:00:00+00:00", count=1) == ["01-02 12:00"]


@pytest.mark.parametrize(
    "expression",
    [
        "* * * *",
        "* * * * * *",
        "61 * * * *",
        "0 24 * * *",
        "0 2 30 2 *",  # never comes
        "0 2 1 * mon",  # both, or either? programs differ
        "0 2 * * mon!",
        "0 2 * * fryday",
        "0 2 * * 8",
        "0 2 * jan! *",
        "0 2 last * *",
        "@daily 0 0 0 0",
        "0 2 * * */0",
        "0 2 31-1 * *",
    ],
)
def test_an_expression_that_is_none_or_never_comes_is_refused(expression):
    with pytest.raises(ValidationError):
        CronTimes(expression=expression)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "Europe", "../etc/passwd", "a" * 101])
def test_a_zone_that_is_none_is_refused(zone):
    with pytest.raises(ValidationError):
        CronTimes(expression="0 2 * * *", timezone=zone)


def test_an_interval_keeps_its_beat_however_late_it_is_looked_at():
    trigger, due = Interval(seconds=3600), NOW
    assert first_due(trigger, now=NOW) == NOW + timedelta(hours=1)
    assert next_due(trigger, before=due, now=due + timedelta(seconds=7)) == NOW + timedelta(hours=1)
    assert next_due(trigger, before=due, now=due + timedelta(days=3)) == NOW + timedelta(hours=73)
    assert next_due(trigger, before=due, now=due + timedelta(hours=73, minutes=1)) == NOW + timedelta(
        hours=74
    )


def test_an_interval_whose_clock_was_set_back_does_not_run_backwards():
    assert next_due(Interval(seconds=60), before=NOW, now=NOW - timedelta(days=1)) > NOW - timedelta(days=1)


def test_what_follows_its_predecessor_begins_at_once():
    assert first_due(AfterPrevious(pause_s=60), now=NOW) == NOW


@pytest.mark.parametrize(
    "trigger", [CronTimes(expression="0 2 * * *"), Interval(seconds=5), AfterPrevious(pause_s=1)]
)
def test_a_trigger_is_read_as_it_was_written(trigger):
    assert read_trigger(trigger.model_dump(mode="json")) == trigger


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kind": "moon"},
        {"kind": "interval"},
        {"kind": "interval", "seconds": 0},
        {"kind": "cron", "x": 1},
    ],
)
def test_a_trigger_that_cannot_be_is_refused(document):
    with pytest.raises(ValidationError):
        read_trigger(document)
