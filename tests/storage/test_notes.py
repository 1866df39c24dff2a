"""Notes: kept beside verdicts, in order, and never taken for one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from storage import labels, notes, success_counts
from storage.db import Database
from storage.errors import RowMissing
from storage.note_tables import MOST_CHARACTERS, EpisodeNoteRow

SNAGGED = "gripper cable snagged at step 20"


def write(
    database: Database, episode_id: str, text: str, *, now: datetime, author: str = "ann"
) -> EpisodeNoteRow:
    with database.write() as session:
        return notes.append(session, episode_id, text, author=author, now=now)


@pytest.fixture
def episode(committed: Callable, an_episode: Callable) -> str:
    return committed(an_episode()).id


def test_a_note_says_who_wrote_what_and_when(database: Database, episode: str, now: datetime) -> None:
    there = now.astimezone(timezone(timedelta(hours=2)))
    write(database, episode, SNAGGED, now=there)
    with database.read() as session:
        (row,) = notes.history(session, episode)
    assert (row.episode_id, row.text, row.author, row.noted_at) == (episode, SNAGGED, "ann", now)
    assert row.noted_at.tzinfo is UTC


def test_notes_are_told_in_the_order_they_came_in_whatever_their_time(
    database: Database, episode: str, now: datetime
) -> None:
    for place, text in enumerate(("first", "second", "third")):
        write(database, episode, text, now=now - timedelta(minutes=place))
    with database.read() as session:
        assert [row.text for row in notes.history(session, episode)] == ["first", "second", "third"]


def test_the_space_around_a_note_is_left_out_and_what_is_in_it_stays(
    database: Database, episode: str, now: datetime
) -> None:
    assert write(database, episode, " \n\tone\n two  three\r\n", now=now).text == "one\n two  three"


@pytest.mark.parametrize("text", ["", " \n\t", "x" * (MOST_CHARACTERS + 1), "🦾" * (MOST_CHARACTERS + 1)])
def test_a_note_that_is_empty_or_too_long_is_refused_by_the_database(
    database: Database, episode: str, now: datetime, text: str
) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="ck_episode_notes_text_has_a_size"):
        write(database, episode, text, now=now)
    with database.read() as session:
        assert notes.history(session, episode) == []


@pytest.mark.parametrize("text", ["x", "🦾" * MOST_CHARACTERS])
def test_characters_are_counted_and_not_bytes(
    database: Database, episode: str, now: datetime, text: str
) -> None:
    assert write(database, episode, text, now=now).text == text


def test_a_note_on_no_episode_is_refused(database: Database, now: datetime) -> None:
    with pytest.raises(RowMissing, match="no episode 'nobody'"):
        write(database, "nobody", SNAGGED, now=now)


def test_notes_are_counted_for_many_episodes_at_once(
    database: Database, committed: Callable, an_episode: Callable, now: datetime
) -> None:
    rows = [committed(an_episode(number)).id for number in range(1, 5)]
    for place in (0, 0, 2, 3):
        write(database, rows[place], SNAGGED, now=now)
    with database.read() as session:
        assert notes.counts(session, rows[:3]) == {rows[0]: 2, rows[2]: 1}
        assert notes.counts(session, []) == {}


def test_a_note_is_no_verdict_and_changes_no_count(
    database: Database, an_iteration: Callable, committed: Callable, an_episode: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    judged = committed(an_episode(1), iteration_id=iteration.id).id
    unjudged = committed(an_episode(2, labels=()), iteration_id=iteration.id).id

    def told() -> tuple[object, ...]:
        with database.read() as session:
            rows = session.execute(sa.select(success_counts.SuccessCountRow.__table__)).all()
            found = labels.effective_labels(session, [judged, unjudged])
            said = [len(labels.history(session, each)) for each in (judged, unjudged)]
            by_task = success_counts.by_task(session, iteration_id=iteration.id)
            return rows, {key: row.id for key, row in found.items()}, said, by_task

    before = told()
    assert before[2:] == ([1, 0], {"open_drawer": (1, 1)})
    for episode_id in (judged, unjudged):
        write(database, episode_id, SNAGGED, now=now)
    assert told() == before
