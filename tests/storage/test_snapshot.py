"""Rows as lines and back: nothing is lost on the way, from one kind of database to the other neither."""

from __future__ import annotations

from datetime import datetime

import pytest
import sqlalchemy as sa

from storage import audit, checkpoints, labels, snapshot
from storage.db import Database, default_url
from storage.tables import AuditEventRow, CheckpointRow, IterationRow, Row


def everything(database: Database) -> dict[str, list[dict[str, object]]]:
    """All rows by the mapped classes, not by what is tested here."""
    found = {}
    with database.read() as session:
        for table in Row.metadata.sorted_tables:
            rows = session.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings()
            found[table.name] = [dict(row) for row in rows]
    return found


def dumped(database: Database) -> dict[str, list[bytes]]:
    with database.read() as session:
        return {table.name: list(snapshot.lines(session, table)) for table in snapshot.tables(session)}


def loaded(database: Database, content: dict[str, list[bytes]]) -> int:
    with database.write() as session:
        return snapshot.load(session, lambda table: content.get(table, []))


@pytest.fixture
def filled(database, blobs, an_iteration, an_episode, committed, tmp_path, now) -> Database:
    """Rows with references, nulls, JSON, times, truth values, and a child that sorts before its parent."""
    iteration = an_iteration(seed=1, nested={"a": [1, None, 0.1, "ä"]})
    row = committed(an_episode(), iteration_id=iteration.id, held_out=True)
    committed(an_episode(2))
    with database.write() as session:
        labels.append(session, row.id, labels.Verdict(success=None, source="human", at=now), now=now)
        audit.write(session, "ann", action="look", subject="x", facts={}, now=now)
        parent = None
        for name in ("f", "a", "c"):
            (tmp_path / "new").write_bytes(name.encode())
            new = checkpoints.NewCheckpoint(kind="policy", spec_digest="x", parent_id=parent)
            saved = checkpoints.save(session, blobs, new, file=tmp_path / "new", now=now)
            parent = saved.id
    return database


@pytest.fixture
def other(database, tmp_path, request) -> Database:
    """An empty database of the kind that `database` is not."""
    url = (
        request.getfixturevalue("empty_postgres_url")
        if database.is_sqlite
        else default_url(tmp_path / "other")
    )
    made = Database(url)
    made.upgrade()
    yield made
    made.dispose()


def test_everything_arrives_in_the_other_kind_of_database(filled: Database, other: Database) -> None:
    before = everything(filled)
    assert loaded(other, dumped(filled)) == sum(map(len, before.values())) > 10
    assert everything(other) == before


def test_a_row_may_name_one_that_comes_after_it_in_its_own_table(filled: Database, other: Database) -> None:
    content = dumped(filled)
    for order in (content["checkpoints"], content["checkpoints"][::-1]):
        with other.write() as session:
            session.execute(sa.delete(CheckpointRow))
        loaded(other, {"checkpoints": order})
        assert everything(other)["checkpoints"] == everything(filled)["checkpoints"]


def test_numbers_that_the_database_counts_go_on_after_the_highest(
    filled: Database, other: Database, now: datetime
) -> None:
    loaded(other, dumped(filled))
    with other.write() as session:
        audit.write(session, "bob", action="look", subject="x", facts={}, now=now)
    with other.read() as session:
        assert session.scalars(sa.select(AuditEventRow.id).order_by(AuditEventRow.id)).all() == [1, 2]


def test_a_dump_is_one_moment_whatever_is_written_meanwhile(database, an_iteration) -> None:
    an_iteration()
    with database.read() as session:
        assert snapshot.rows_in(session) == {"iterations": 1, "events": 1}
        an_iteration()
        (table,) = (each for each in snapshot.tables(session) if each.name == "iterations")
        assert len(list(snapshot.lines(session, table))) == 1
    with database.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(IterationRow)) == 2


def test_a_load_that_fails_leaves_no_row(filled: Database, other: Database) -> None:
    content = dumped(filled)
    content["labels"] = [content["labels"][0].replace(b'"source": "human"', b'"source": "guess"')] * 2
    with pytest.raises(sa.exc.IntegrityError):
        loaded(other, content)
    with other.read() as session:
        assert snapshot.rows_in(session) == {}


def test_columns_that_this_release_does_not_know_are_kept_too(database, other, an_iteration) -> None:
    """A backup is restored at its own revision; the mapped classes of today do not matter."""
    an_iteration()
    for each in (database, other):
        with each.write() as session:
            session.execute(sa.text("ALTER TABLE iterations ADD COLUMN later INTEGER"))
    try:
        with database.write() as session:
            session.execute(sa.text("UPDATE iterations SET later = 7"))
        loaded(other, dumped(database))
        with other.read() as session:
            assert session.execute(sa.text("SELECT later FROM iterations")).scalars().all() == [7]
    finally:
        with database.write() as session:
            session.execute(sa.text("ALTER TABLE iterations DROP COLUMN later"))
