"""Rows of schedules: kept, changed with a version, found when somebody has to look at them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from storage import iterations, schedules
from storage.db import Database
from storage.errors import NotJson, RowMissing
from storage.schedules import Wish
from storage.tables import IterationRow

HOUR = timedelta(hours=1)
WISH = Wish(
    name="nightly", enabled=True, trigger={"kind": "interval"}, spec={"seed": 1}, ends_at=None, max_runs=None
)


def kept(database: Database, now: datetime, *, at: datetime | None, **changes: object) -> str:
    with database.write() as session:
        return schedules.add(session, replace(WISH, **changes), next_run_at=at, now=now).id


def due(database: Database, now: datetime) -> list[str]:
    with database.read() as session:
        return [row.name for row in schedules.due(session, now=now)]


def test_a_schedule_is_read_back_as_it_was_asked_for(database: Database, now: datetime) -> None:
    wish = replace(WISH, ends_at=now + HOUR, max_runs=3)
    schedule = kept(database, now, at=now, ends_at=now + HOUR, max_runs=3)
    with database.read() as session:
        row = schedules.get(session, schedule)
        assert schedules.wish_of(row) == wish
        assert (row.version, row.runs, row.created_at, row.next_run_at) == (1, 0, now, now)
        found = schedules.by_name(session, "nightly")
        assert found is not None
        assert found.id == schedule
        assert schedules.by_name(session, "weekly") is None


def test_a_change_is_a_new_version_and_nothing_else_changes(database: Database, now: datetime) -> None:
    schedule = kept(database, now, at=now)
    with database.write() as session:
        row = schedules.get(session, schedule)
        schedules.change(session, row, replace(WISH, name="weekly"), next_run_at=None, now=now + HOUR)
    with database.read() as session:
        row = schedules.get(session, schedule)
    assert (row.name, row.version, row.updated_at, row.created_at) == ("weekly", 2, now + HOUR, now)
    assert row.next_run_at is None


def test_a_name_is_taken_once(database: Database, now: datetime) -> None:
    kept(database, now, at=now)
    with pytest.raises(sa.exc.IntegrityError):
        kept(database, now, at=now)


def test_due_is_what_is_enabled_and_whose_time_has_come_longest_overdue_first(
    database: Database, now: datetime
) -> None:
    kept(database, now, at=now, name="later")
    kept(database, now, at=now - HOUR, name="first")
    kept(database, now, at=now + HOUR, name="not yet")
    kept(database, now, at=now, name="paused", enabled=False)
    kept(database, now, at=None, name="waits")
    assert due(database, now) == ["first", "later"]
    assert due(database, now - 2 * HOUR) == []


def test_what_waits_for_its_iteration_is_released_when_that_is_over(
    database: Database, now: datetime, an_iteration: Callable[..., IterationRow]
) -> None:
    iteration = an_iteration()
    schedule = kept(database, now, at=None)
    kept(database, now, at=now + HOUR, name="has a time")
    with database.write() as session:
        for row in schedules.list_schedules(session):
            row.last_iteration_id = iteration.id
    with database.read() as session:
        assert schedules.released(session) == []
        unfinished = schedules.unfinished_iteration(session, schedules.get(session, schedule))
        assert unfinished is not None
        assert unfinished.id == iteration.id
    with database.write() as session:
        iterations.cancel(session, iteration.id, now=now)
    with database.read() as session:
        ((row, ended),) = schedules.released(session)
        assert (row.id, ended.id) == (schedule, iteration.id)
        assert schedules.unfinished_iteration(session, row) is None


def test_a_removed_schedule_is_missing_and_its_iteration_stays(
    database: Database, now: datetime, an_iteration: Callable[..., IterationRow]
) -> None:
    iteration = an_iteration()
    schedule = kept(database, now, at=now)
    with database.write() as session:
        row = schedules.get(session, schedule)
        row.last_iteration_id = iteration.id
        schedules.remove(session, row)
    with database.read() as session:
        with pytest.raises(RowMissing, match=schedule):
            schedules.get(session, schedule)
        assert iterations.get(session, iteration.id).number == iteration.number


def test_what_json_cannot_hold_is_refused(database: Database, now: datetime) -> None:
    with pytest.raises(NotJson):
        kept(database, now, at=now, spec={"seed": float("nan")})


@pytest.mark.parametrize("column", ["runs = -1", "max_runs = 0", "version = 0"])
def test_the_database_refuses_counts_that_cannot_be(database: Database, now: datetime, column: str) -> None:
    kept(database, now, at=now)
    with pytest.raises(sa.exc.IntegrityError), database.write() as session:
        session.execute(sa.text(f"UPDATE schedules SET {column}"))  # noqa: S608 - written above
