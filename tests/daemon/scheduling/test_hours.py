"""When a robot may move: by the clock on its wall, by its duty cycle, by its rests."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from daemon.scheduling.hours import Closed, RobotHours, closed, is_open, opens_at

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)  # a Thursday, one o'clock in Berlin
NIGHTS = {
    "timezone": "Europe/Berlin",
    "open": [{"days": ["mon", "tue", "wed", "thu", "fri"], "begins": "20:00", "ends": "06:00"}],
}
MINUTE = timedelta(minutes=1)


def hours(**document):
    return RobotHours.model_validate(document)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def span(begins: float, minutes: float):
    """A movement so many minutes before now, and how long it took."""
    start = NOW - begins * MINUTE
    return start, start + minutes * MINUTE


def test_a_robot_without_hours_may_always_move():
    assert closed(RobotHours(), [span(1, 1)], now=NOW) is None


@pytest.mark.parametrize(
    ("when", "may"),
    [
        ("2026-01-01T18:59", False),  # Thursday, a minute before eight
        ("2026-01-01T19:00", True),
        ("2026-01-02T04:59", True),  # Thursday's night goes on until six on Friday
        ("2026-01-02T05:00", False),
        ("2026-01-03T04:59", True),  # Friday's night ends on Saturday
        ("2026-01-03T19:00", False),  # Saturday has none
        ("2026-01-05T04:00", False),  # and so Monday's morning has none either
        ("2026-01-05T19:00", True),
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_begins(when, may):
    assert is_open(hours(**NIGHTS), at(when)) is may


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-01-01T12:00", "2026-01-01T19:00"),
        ("2026-01-01T20:00", "2026-01-01T20:00"),
        ("2026-01-03T12:00", "2026-01-05T19:00"),
        ("2026-03-28T12:00", "2026-03-30T18:00"),  # clocks have changed in between
        ("2026-10-23T12:00", "2026-10-23T18:00"),
        ("2026-10-26T12:00", "2026-10-26T19:00"),
    ],
)
def test_it_is_known_when_the_next_window_opens(now, opens):
    assert opens_at(hours(**NIGHTS), at(now)) == at(opens)


def test_quiet_hours_are_closed_whatever_is_open():
    lunch = hours(open=[{"begins": "08:00", "ends": "18:00"}], quiet=[{"begins": "12:00", "ends": "13:00"}])
    assert closed(lunch, [], now=NOW) == Closed(why="outside of its hours", until=at("2026-01-01T13:00"))
    assert closed(lunch, [], now=NOW + timedelta(hours=1)) is None


def test_quiet_hours_alone_leave_the_rest_of_the_day():
    night = hours(timezone="Europe/Berlin", quiet=[{"begins": "22:00", "ends": "07:00"}])
    assert is_open(night, NOW)
    assert opens_at(night, at("2026-01-01T23:00")) == at("2026-01-02T06:00")


def test_a_window_from_a_time_to_the_same_is_a_day():
    saturday = hours(open=[{"days": ["sat"], "begins": "06:00", "ends": "06:00"}])
    assert not is_open(saturday, at("2026-01-03T05:59"))
    assert is_open(saturday, at("2026-01-04T05:59"))
    assert not is_open(saturday, at("2026-01-04T06:00"))


def test_a_night_is_by_the_clock_on_the_wall_when_clocks_change():
    night = hours(timezone="Europe/Berlin", open=[{"begins": "01:00", "ends": "04:00"}])

    def minutes(first: str) -> int:
        return sum(is_open(night, at(first) + step * MINUTE) for step in range(600))

    assert (minutes("2026-03-28T22:00"), minutes("2026-10-24T21:00"), minutes("2026-01-01T21:00")) == (
        120,
        240,
        180,
    )


@pytest.mark.parametrize(
    ("moved", "until"),
    [
        ([], None),
        ([span(30, 5)], None),  # 5 used and 5 more fit into 20
        ([span(30, 5), span(20, 5), span(10, 5)], None),
        (
            [span(30, 5), span(20, 5), span(10, 5), span(5, 5)],
            NOW + 35 * MINUTE,
        ),  # the first one must leave the hour
        ([span(59, 5), span(20, 5), span(10, 5), span(5, 5)], NOW + 6 * MINUTE),
        (
            [span(62, 5), span(20, 5), span(10, 5), span(5, 5)],
            NOW + 3 * MINUTE,
        ),  # only 3 of its minutes count
        ([span(90, 30)], None),  # over since an hour
        ([span(25, 25)], NOW + 60 * MINUTE),  # longer than the allowance: only once the hour is free of it
        ([span(61, 25)], NOW + 24 * MINUTE),
    ],
)
def test_movement_in_any_hour_stays_within_the_duty_cycle(moved, until):
    found = closed(hours(minutes_per_hour=20), moved, now=NOW)
    assert (None if found is None else found.until) == until


def test_the_duty_cycle_holds_over_a_day_of_episodes():
    limit, begun, moved = hours(minutes_per_hour=20), NOW, []
    while begun < NOW + timedelta(hours=8):
        found = closed(limit, moved, now=begun)
        if found is not None:
            assert found.until > begun
            begun = found.until
        moved.append((begun, begun + 3 * MINUTE))
        begun += 3.5 * MINUTE
    for end in (ended for _, ended in moved):
        worked = sum(max(0.0, (min(e, end) - max(b, end - 60 * MINUTE)) / MINUTE) for b, e in moved)
        assert worked <= 20 + 1e-6
    assert len(moved) > 8 * 5, "and most of what it allows is used"


@pytest.mark.parametrize(
    ("moved", "until"),
    [
        ([], None),
        ([span(40, 15), span(20, 14)], None),  # 29 minutes of work
        ([span(40, 15), span(20, 15)], NOW + 5 * MINUTE),  # 30, and the rest began five minutes ago
        ([span(40, 15), span(16, 16)], NOW + 10 * MINUTE),
        ([span(60, 29), span(20, 15)], None),  # eleven minutes lay between: that was a rest
        ([span(50, 30), span(11, 0)], None),  # it stood still for long enough
        ([span(42, 30)], None),
        ([span(39, 30)], NOW + 1 * MINUTE),
    ],
)
def test_after_its_work_a_robot_rests(moved, until):
    found = closed(hours(rest={"after_minutes": 30, "minutes": 10}), moved, now=NOW)
    assert (None if found is None else found.until) == until


def test_it_is_told_why_and_until_when_by_the_robots_clock():
    found = closed(hours(**NIGHTS), [], now=NOW)
    assert str(found) == "outside of its hours: waiting until 2026-01-01 20:00 CET"
    assert str(closed(hours(minutes_per_hour=1), [span(1, 1)], now=NOW)).startswith(
        "its duty cycle is used up"
    )
    assert str(Closed(why="enough", until=None)) == "enough"


@pytest.mark.parametrize(
    "document",
    [
        {"quiet": [{"begins": "06:00", "ends": "06:00"}]},
        {"open": [{"begins": "06:00", "ends": "07:00"}], "quiet": [{"begins": "05:00", "ends": "08:00"}]},
        {"open": [{"begins": "6:00", "ends": "07:00"}]},
        {"open": [{"begins": "06:60", "ends": "07:00"}]},
        {"timezone": "Atlantis"},
    ],
)
def test_hours_in_which_a_robot_could_never_move_are_refused(document):
    with pytest.raises(ValidationError):
        RobotHours.model_validate(document)
