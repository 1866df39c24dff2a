"""The mark of the counts of success: raised by whatever changes a count, and by nothing else."""

from collections.abc import Callable
from datetime import datetime

import pytest

from storage import iterations, labels, success_counts, success_marks
from storage.db import Database


def mark_of(database: Database) -> int:
    with database.read() as session:
        return success_marks.changes(session)


def test_before_anything_is_counted_the_mark_is_zero(database: Database) -> None:
    assert mark_of(database) == 0


def test_an_episode_a_verdict_and_a_rebuilding_raise_it(
    database: Database,
    committed: Callable,
    an_episode: Callable,
    an_iteration: Callable,
    now: datetime,
) -> None:
    marks = [mark_of(database)]
    row = committed(an_episode(1, labels=()), iteration_id=an_iteration().id)
    marks.append(mark_of(database))
    with database.write() as session:
        labels.append(session, row.id, labels.Verdict(success=True, source="human", at=now), now=now)
    marks.append(mark_of(database))
    with database.write() as session:
        success_counts.rebuild(session)
    marks.append(mark_of(database))
    assert marks == sorted(set(marks)), "each change has a higher mark"


def test_what_changes_no_count_leaves_it(
    database: Database, committed: Callable, an_episode: Callable, an_iteration: Callable, now: datetime
) -> None:
    row = an_iteration()
    committed(an_episode(1), iteration_id=row.id)
    before = mark_of(database)
    an_iteration(seed=2)
    with database.write() as session:
        iterations.cancel(session, row.id, now=now)
    assert mark_of(database) == before


def test_a_change_that_is_taken_back_leaves_it(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as session:
        success_counts.rebuild(session)
        raise RuntimeError
    assert mark_of(database) == 0
