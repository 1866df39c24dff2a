"""Robot episodes that are used up: people are told once, and again when it is another day or budget."""

from datetime import timedelta

import pytest

from daemon.events.words import FOR_PEOPLE, event_record
from daemon.iteration import advance
from daemon.scheduling.budgets import Budgets
from daemon.scheduling.hours import Closed
from daemon.scheduling.robot_budget import tell_episodes_spent, untold
from daemon.spec import parse_spec
from storage import episodes, events, iterations, station_hours

HOUR = timedelta(hours=1)
THREE = Budgets(episodes_per_day=3)


@pytest.fixture
def collected(database, blobs, an_episode, now):
    """Bring in episodes of an iteration that is over, each recorded so many hours after noon."""

    def collect(*hours: float) -> None:
        with database.write() as session:
            row, _ = iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
            iterations.cancel(session, row.id, now=now)
            for hour in hours:
                origin = episodes.Provenance(origin="collect", iteration_id=row.id)
                built = an_episode(int(hour * 100) + 1)
                episodes.commit(session, blobs, built, provenance=origin, now=now + hour * HOUR)

    return collect


def asked(database, now, **spec) -> str:
    with database.write() as session:
        document = parse_spec(spec).document()
        return iterations.request_iteration(session, spec=document, idempotency_key=None, now=now)[0].id


def advanced(database, at, budgets=THREE) -> str | None:
    with database.write() as session:
        return advance(session, now=at, budgets=budgets)


def told(database):
    with database.read() as session:
        return events.after(session, 0, kinds=("robot_budget_spent",))


def test_an_iteration_that_may_not_collect_for_want_of_episodes_tells_it_once(database, collected, now):
    collected(0, 1, 2)
    asked(database, now)
    why = "3 robot episodes a day are recorded: waiting until 2026-01-02 12:00 UTC"
    assert advanced(database, now + 3 * HOUR) == f"robots wait reason={why}"
    assert advanced(database, now + 4 * HOUR) is None
    (event,) = told(database)
    assert event_record(event)["text"] == f"iteration 2: {why}"
    assert "robot_budget_spent" in FOR_PEOPLE


def test_hours_that_are_closed_are_no_budget_and_are_not_told_of(database, now):
    with database.write() as session:
        station_hours.put(session, "cell", {"open": [{"begins": "20:00", "ends": "06:00"}]}, now=now)
    asked(database, now)
    assert advanced(database, now) is None
    assert told(database) == []


def test_a_budget_that_has_room_is_not_told_of(database, collected, now):
    collected(0, 1)
    asked(database, now)
    assert advanced(database, now + 3 * HOUR) == "phase queued iteration=2 phase=collect"
    assert told(database) == []


def test_a_day_that_is_full_again_and_again_is_told_of_once_in_a_day(database, collected, now):
    """One more episode may begin whenever an old one is a day ago; each of them fills the day again."""
    collected(0, 1, 2)
    asked(database, now)
    advanced(database, now + 3 * HOUR)
    collected(24.5)
    assert advanced(database, now + 24.6 * HOUR) is None, "it is full again, and that is no news"
    collected(25.1, 26.1)
    assert advanced(database, now + 27.1 * HOUR) is not None, "a day after it was told"
    assert len(told(database)) == 2


def test_another_lineage_that_waits_for_the_same_day_tells_it_no_second_time(database, collected, now):
    collected(0, 1, 2)
    asked(database, now)
    asked(database, now, lineage="b")
    for _ in range(3):
        advanced(database, now + 3 * HOUR)
    assert len(told(database)) == 1


def test_a_larger_budget_that_is_spent_as_well_is_told_at_once(database, collected, now):
    collected(0, 1, 2)
    asked(database, now)
    advanced(database, now + 3 * HOUR)
    collected(3.5)
    assert advanced(database, now + 4 * HOUR, Budgets(episodes_per_day=4)) is not None
    assert [event.facts["why"] for event in told(database)] == [
        "3 robot episodes a day are recorded",
        "4 robot episodes a day are recorded",
    ]


def test_the_episodes_of_an_iteration_are_told_once_for_each_iteration(database, now):
    found = Closed(why="2 robot episodes of this iteration are recorded", until=None, spent="iteration")
    first = asked(database, now)
    second = asked(database, now, lineage="b")
    for iteration_id in (first, first, second):
        with database.write() as session:
            tell_episodes_spent(session, iteration_id, found=found, now=now)
    assert [event.iteration for event in told(database)] == [1, 2]
    with database.read() as session:
        assert not untold(session, first, found=found, now=now + timedelta(days=9))


def test_what_was_found_a_moment_ago_and_is_over_is_not_told(database, now):
    found = Closed(why="1 robot episodes a day are recorded", until=now, spent="day")
    iteration_id = asked(database, now)
    with database.write() as session:
        assert tell_episodes_spent(session, iteration_id, found=found, now=now) is None
        assert tell_episodes_spent(session, iteration_id, found=found, now=now - HOUR) is not None
