"""Whether an iteration may begin to collect, as the store knows it."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.iteration import advance
from daemon.scheduling.budgets import UNLIMITED
from daemon.scheduling.waiting import (
    collect_waits,
    episodes_left,
    iteration_is_spent,
    robot_waits,
    waiting_for,
)
from daemon.spec import parse_spec
from storage import episodes, iterations, phase_runs, station_hours

NIGHTS = {"timezone": "Europe/Berlin", "open": [{"begins": "20:00", "ends": "06:00"}]}
LATE = {"open": [{"begins": "22:00", "ends": "23:00"}]}
NIGHT = datetime(2026, 1, 1, 21, 0, tzinfo=UTC)


def with_hours(database, now, **hours):
    with database.write() as session:
        for station, document in hours.items():
            station_hours.put(session, station, document, now=now)


def asked(database, now):
    with database.write() as session:
        spec = parse_spec({}).document()
        return iterations.request_iteration(session, spec=spec, idempotency_key=None, now=now)[0]


def collected_by(database, now, *robots):
    """An iteration whose collect phase these robots did, and that was cancelled then."""
    row = asked(database, now)
    with database.write() as session:
        phase_runs.queue(session, row, phase="collect", now=now)
        claimed = phase_runs.claim(session, "w", ttl_s=60, now=now)
        phase_runs.finish(session, claimed, outcome={"robots": list(robots)}, now=now)
        iterations.cancel(session, row.id, now=now)


def waits(database, now, *, day=None):
    with database.read() as session:
        found = collect_waits(session, episodes_per_day=day, now=now)
    return None if found is None else str(found)


def advanced(database, now, **limits):
    with database.write() as session:
        return advance(session, now=now, **limits)


def told(database, row, now):
    with database.read() as session:
        found = iterations.get(session, row.id)
        return waiting_for(session, found, budgets=UNLIMITED, now=now)


def test_without_hours_nothing_waits(database, now):
    assert waits(database, now) is None


def test_before_the_first_collect_phase_every_robot_with_hours_is_asked(database, now):
    with_hours(database, now, a=NIGHTS, b=LATE)
    assert waits(database, now) == "a, b outside of robot hours: waiting until 2026-01-01 20:00 CET"
    assert waits(database, NIGHT) is None, "one of them may move"


def test_afterwards_only_the_robots_that_collected_count(database, now):
    with_hours(database, now, a=NIGHTS, b=LATE)
    collected_by(database, now, "b")
    assert waits(database, NIGHT) == "b outside of robot hours: waiting until 2026-01-01 22:00 UTC"
    collected_by(database, now + timedelta(seconds=1), "b", "free")
    assert waits(database, now) is None, "a robot without hours may always move"


def test_collecting_is_not_queued_outside_of_the_hours_and_is_when_they_come(database, now):
    with_hours(database, now, cell=NIGHTS)
    row = asked(database, now)
    assert advanced(database, now) is None
    assert told(database, row, now) == "cell outside of robot hours: waiting until 2026-01-01 20:00 CET"
    assert advanced(database, NIGHT) == "phase queued iteration=1 phase=collect"
    assert told(database, row, now) is None, "it is queued, whatever the hours are by now"


def test_only_collecting_waits_for_a_robot(database, now):
    with_hours(database, now, cell=NIGHTS)
    asked(database, now)
    advanced(database, NIGHT)
    with database.write() as session:
        claimed = phase_runs.claim(session, "w", ttl_s=60, now=NIGHT)
        phase_runs.finish(session, claimed, outcome={"robots": ["cell"]}, now=NIGHT)
    by_day = NIGHT + timedelta(hours=12)
    assert advanced(database, by_day) == "phase queued iteration=1 phase=finetune_world_model"


def test_what_is_over_waits_for_nothing(database, now):
    with_hours(database, now, cell=NIGHTS)
    row = asked(database, now)
    with database.write() as session:
        iterations.cancel(session, row.id, now=now)
    assert told(database, row, now) is None


def test_a_days_episodes_hold_collecting_back(sqlite_database, now, blobs, an_episode):
    for number in (1, 2):
        with sqlite_database.write() as session:
            provenance = episodes.Provenance(origin="collect")
            at = now - timedelta(hours=2 * number)
            episodes.commit(session, blobs, an_episode(number), provenance=provenance, now=at)
    assert waits(sqlite_database, now, day=3) is None
    assert waits(sqlite_database, now, day=2) == (
        "2 robot episodes a day are recorded: waiting until 2026-01-02 08:00 UTC"
    )
    assert waits(sqlite_database, now, day=1).endswith("waiting until 2026-01-02 10:00 UTC")


@pytest.mark.parametrize(
    ("most", "day", "left"),
    [(None, None, None), (3, None, 2), (1, None, 0), (None, 9, 7), (3, 9, 2), (9, 3, 1)],
)
def test_the_smaller_budget_says_how_many_episodes_are_left(
    sqlite_database, now, blobs, an_episode, most, day, left
):
    row = asked(sqlite_database, now)
    for number, iteration_id in ((1, row.id), (2, None)):
        with sqlite_database.write() as session:
            provenance = episodes.Provenance(origin="collect", iteration_id=iteration_id)
            episodes.commit(session, blobs, an_episode(number), provenance=provenance, now=now)
    with sqlite_database.read() as session:
        assert episodes_left(session, row.id, most=most, episodes_per_day=day, now=now) == left
        assert (iteration_is_spent(session, row.id, most=most) is not None) == (most == 1)


def test_a_robot_that_has_moved_much_rests_by_its_own_episodes(sqlite_database, now, blobs, an_episode):
    with sqlite_database.write() as session:
        provenance = episodes.Provenance(origin="collect")
        row, _ = episodes.commit(session, blobs, an_episode(1), provenance=provenance, now=now)
    rest = {"rest": {"after_minutes": 0.001, "minutes": 720}}
    with_hours(sqlite_database, now, **{"cell-1": rest, "cell-2": rest})
    with sqlite_database.read() as session:
        found = robot_waits(session, "cell-1", episodes_per_day=None, now=now)
        assert found.until == row.ended_at + timedelta(hours=12)
        assert robot_waits(session, "cell-2", episodes_per_day=None, now=now) is None
        assert robot_waits(session, "cell-2", episodes_per_day=1, now=now) is not None
