"""Stations: noted when seen, described by their last description."""

from datetime import datetime, timedelta

import pytest

from storage import stations
from storage.db import Database
from storage.errors import NotJson


def see(database: Database, now: datetime, station_id: str = "cell-1", **description: object) -> None:
    with database.write() as session:
        stations.ensure(session, station_id, description=description or None, now=now)


def seen(database: Database) -> list[tuple[str, dict, datetime, datetime]]:
    with database.read() as session:
        rows = stations.list_stations(session)
    return [(row.id, row.description, row.first_seen_at, row.last_seen_at) for row in rows]


def test_a_station_is_noted_once_and_its_last_sight_moves(database: Database, now: datetime) -> None:
    later = now + timedelta(hours=1)
    see(database, now)
    see(database, later)
    assert seen(database) == [("cell-1", {}, now, later)]


def test_a_station_is_never_seen_last_before_it_was(database: Database, now: datetime) -> None:
    see(database, now)
    see(database, now - timedelta(hours=1))
    assert seen(database) == [("cell-1", {}, now, now)]


def test_a_description_replaces_the_one_before_and_none_leaves_it(database: Database, now: datetime) -> None:
    see(database, now, model="wx250s", box=[0.1, 0.2])
    see(database, now)
    assert seen(database)[0][1] == {"model": "wx250s", "box": [0.1, 0.2]}
    see(database, now, model="wx200")
    assert seen(database)[0][1] == {"model": "wx200"}


def test_stations_are_listed_by_name(database: Database, now: datetime) -> None:
    for name in ("b", "c", "a"):
        see(database, now, name)
    assert [row[0] for row in seen(database)] == ["a", "b", "c"]


def test_a_description_that_json_cannot_hold_is_refused_and_the_station_not_noted(
    database: Database, now: datetime
) -> None:
    with pytest.raises(NotJson, match="the description of station cell-1"):
        see(database, now, box=float("nan"))
    assert seen(database) == []
