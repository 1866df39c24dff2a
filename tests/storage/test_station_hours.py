"""Hours of stations, and what is known of the movement that they limit."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from robot_bridge.episode import Episode
from storage import phase_runs, station_hours
from storage.db import Database
from storage.errors import NotJson
from storage.tables import EpisodeRow, IterationRow

START = datetime(2026, 1, 1, 11, 0, 0, tzinfo=UTC)  # of every episode of the builder
HOUR = timedelta(hours=1)


def put(database: Database, now: datetime, station: str = "cell-1", **hours: object) -> int:
    with database.write() as session:
        return station_hours.put(session, station, hours, now=now).version


def test_hours_are_replaced_and_every_time_is_a_new_version(database: Database, now: datetime) -> None:
    assert put(database, now, timezone="UTC") == 1
    assert put(database, now + HOUR, timezone="Europe/Berlin") == 2
    put(database, now, "cell-0")
    with database.read() as session:
        assert [row.station_id for row in station_hours.list_hours(session)] == ["cell-0", "cell-1"]
        row = station_hours.get(session, "cell-1")
        assert row is not None
        assert (row.hours, row.updated_at) == ({"timezone": "Europe/Berlin"}, now + HOUR)


def test_a_station_without_hours_has_none(database: Database, now: datetime) -> None:
    put(database, now)
    with database.write() as session:
        row = station_hours.get(session, "cell-1")
        assert row is not None
        station_hours.remove(session, row)
    with database.read() as session:
        assert station_hours.get(session, "cell-1") is None


def test_what_json_cannot_hold_is_refused(database: Database, now: datetime) -> None:
    with pytest.raises(NotJson):
        put(database, now, minutes=float("inf"))


def test_movement_is_that_of_the_stations_own_collected_episodes(
    database: Database,
    now: datetime,
    committed: Callable[..., EpisodeRow],
    an_episode: Callable[..., Episode],
) -> None:
    committed(an_episode(1, steps=5))
    committed(an_episode(2), origin="base")
    with database.read() as session:
        assert station_hours.moved(session, "cell-1", since=now - HOUR) == [
            (START, START + timedelta(seconds=1))
        ]
        assert station_hours.moved(session, "cell-1", since=now) == [], (
            "committed at that instant, not after it"
        )
        assert station_hours.moved(session, "cell-2", since=now - HOUR) == []


def test_the_newest_commits_are_given_oldest_first(
    database: Database,
    now: datetime,
    committed: Callable[..., EpisodeRow],
    an_episode: Callable[..., Episode],
) -> None:
    rows = [committed(an_episode(number)) for number in range(1, 4)]
    with database.write() as session:
        for hours, row in enumerate(rows):
            found = session.get(EpisodeRow, row.id)
            assert found is not None
            found.committed_at = now + hours * HOUR
    with database.read() as session:
        found = station_hours.committed(session, since=now - HOUR, at_most=2)
        assert found == [now + HOUR, now + 2 * HOUR]
        assert station_hours.committed(session, since=now + HOUR, at_most=9) == [now + 2 * HOUR]


def test_an_iterations_episodes_are_counted_whatever_they_are_worth(
    database: Database,
    committed: Callable[..., EpisodeRow],
    an_episode: Callable[..., Episode],
    an_iteration: Callable[..., IterationRow],
) -> None:
    iteration, other = an_iteration(), an_iteration()
    committed(an_episode(1), iteration_id=iteration.id)
    committed(an_episode(2, policy_eval=False), iteration_id=iteration.id)
    committed(an_episode(3), iteration_id=other.id)
    with database.read() as session:
        assert station_hours.collected(session, iteration.id) == 2


def test_the_last_robots_are_those_of_the_collect_phase_that_finished_last(
    database: Database, now: datetime, an_iteration: Callable[..., IterationRow]
) -> None:
    with database.read() as session:
        assert station_hours.last_robots(session) == []
    for hours, robots in enumerate((["a"], ["b", "c"])):
        iteration = an_iteration()
        with database.write() as session:
            phase_runs.queue(session, iteration, phase="collect", now=now)
            claimed = phase_runs.claim(session, "w", ttl_s=60, now=now)
            assert claimed is not None
            at = now + hours * HOUR
            phase_runs.finish(session, claimed, outcome={"robots": robots}, now=at)
    with database.read() as session:
        assert station_hours.last_robots(session) == ["b", "c"]
