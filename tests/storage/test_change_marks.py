"""Marks of what is committed, on both databases: equal as long as nobody writes, else another."""

import sqlite3
import threading

import pytest
import sqlalchemy as sa

from storage import iterations
from storage.change_marks import ChangeMarks
from storage.db import Database
from tests.waiting import until


@pytest.fixture
def marks(database):
    marks = ChangeMarks(database)
    yield marks
    marks.close()


def request(database, now, *, key=None):
    with database.write() as session:
        iterations.request_iteration(session, spec={}, idempotency_key=key, now=now)


def test_reading_leaves_the_mark_as_it_was(database, marks, now):
    request(database, now)
    before = marks.newest()
    with database.read() as session:
        assert len(iterations.list_iterations(session)[0]) == 1
    assert marks.newest() == before == marks.newest()


def test_every_commit_makes_another_mark_that_never_was_before(database, marks, now):
    seen = [marks.newest()]
    for _ in range(5):
        request(database, now)
        seen.append(marks.newest())
    assert len(set(seen)) == len(seen)


def test_what_another_process_would_write_is_noticed(database, marks, now):
    other = Database(database.url.render_as_string(hide_password=False))
    before = marks.newest()
    request(other, now)
    other.dispose()
    assert marks.newest() != before


def test_what_is_not_committed_has_the_mark_of_before_until_it_is(database, marks, now):
    before = marks.newest()
    with database.write() as session:
        iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
        session.flush()
        if database.is_sqlite:  # PostgreSQL's snapshot names the transactions that are under way
            assert marks.newest() == before
        during = marks.newest()
    assert marks.newest() not in {before, during}


def test_between_two_equal_marks_everybody_reads_the_same(database, marks, now):
    """A reader beside a writer: the count of rows that goes with a mark never changes."""
    over, seen, faults = threading.Event(), {}, []

    def read_until_over():
        own = ChangeMarks(database)
        while not over.is_set():
            mark = own.newest()
            with database.read() as session:
                count = session.scalar(sa.text("SELECT count(*) FROM iterations"))
            if own.newest() == mark and seen.setdefault(mark, count) != count:
                faults.append((mark, seen[mark], count))
        own.close()

    reader = threading.Thread(target=read_until_over)
    reader.start()
    try:
        for _ in range(4):
            known = len(seen)
            for _ in range(10):
                request(database, now)
            until(lambda known=known: len(seen) > known, "a mark that is new to the reader")
    finally:
        over.set()
        reader.join(30)
    assert faults == []


def test_marks_of_a_connection_that_was_opened_again_are_others(database, marks):
    before = marks.newest()
    marks.close()
    again = marks.newest()
    assert (again == before) is not database.is_sqlite
    marks.close()
    marks.close()


def test_whoever_is_across_a_network_says_so(database, marks):
    assert marks.waits is not database.is_sqlite


def test_a_file_that_is_not_there_is_an_error_and_is_not_made(tmp_path):
    marks = ChangeMarks(Database(f"sqlite:///{tmp_path / 'no.sqlite3'}"))
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        marks.newest()
    assert not (tmp_path / "no.sqlite3").exists()
