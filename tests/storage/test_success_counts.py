"""Counts of success: kept beside the episodes, equal to what is counted from them, nothing left out."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa

from storage import checkpoints, labels, success_counts
from storage.blobs import BlobStore
from storage.db import Database
from storage.durations import seconds_between
from storage.episodes import Provenance, commit
from storage.errors import CursorInvalid
from storage.success_counts import Counted, CountQuery
from storage.tables import EpisodeRow

SINCE_EVER = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def asked(database: Database, *by: str, **which: object) -> list[Counted]:
    with database.read() as session:
        return success_counts.grouped(session, CountQuery(by=by, **which), limit=500)[0]


def told(found: list[Counted]) -> dict[tuple[object, ...], tuple[int, int, int, int]]:
    """Keys that are not None to successes, judged, unlabelled, invalid."""
    return {
        tuple(key for key in (one.iteration, one.task, one.station) if key is not None): (
            one.successes,
            one.judged,
            one.unlabelled,
            one.invalid,
        )
        for one in found
    }


@pytest.fixture
def two_iterations(
    an_iteration: Callable, committed: Callable, an_episode: Callable, a_label: Callable
) -> tuple[str, str]:
    """Iteration 1: the drawer won, lost, unlabelled and invalid, the lid won; iteration 2: the drawer won."""
    first, second = an_iteration().id, an_iteration(seed=2).id
    won, lost = (a_label(True),), (a_label(False),)
    committed(an_episode(1, labels=won), iteration_id=first)
    committed(an_episode(2, labels=lost), iteration_id=first)
    committed(an_episode(3, labels=()), iteration_id=first)
    committed(an_episode(4, labels=won, policy_eval=False), iteration_id=first)
    committed(an_episode(5, labels=won, task_id="lid"), iteration_id=first)
    committed(an_episode(6, labels=won), iteration_id=second)
    committed(an_episode(7, labels=won), origin="imported")
    return first, second


@pytest.mark.usefixtures("two_iterations")
def test_episodes_are_counted_by_whatever_is_asked_for(database: Database) -> None:
    assert told(asked(database)) == {(): (3, 4, 1, 1)}
    assert told(asked(database, "task")) == {("lid",): (1, 1, 0, 0), ("open_drawer",): (2, 3, 1, 1)}
    assert told(asked(database, "iteration")) == {(1,): (2, 3, 1, 1), (2,): (1, 1, 0, 0)}
    assert told(asked(database, "task", "iteration", "station")) == {
        (2, "open_drawer", "cell-1"): (1, 1, 0, 0),
        (1, "lid", "cell-1"): (1, 1, 0, 0),
        (1, "open_drawer", "cell-1"): (1, 2, 1, 1),
    }


@pytest.mark.usefixtures("two_iterations")
def test_the_newest_iteration_comes_first_and_tasks_by_name(database: Database) -> None:
    order = [(one.iteration, one.task) for one in asked(database, "task", "iteration")]
    assert order == [(2, "open_drawer"), (1, "lid"), (1, "open_drawer")]


@pytest.mark.usefixtures("two_iterations")
def test_what_was_added_up_is_told_task_by_task_too(database: Database) -> None:
    (newer, older) = asked(database, "iteration")
    assert sorted(older.by_task) == [(1, 1), (1, 2)]
    assert newer.by_task == ((1, 1),)
    assert (newer.groups, older.groups) == (2, 2)


@pytest.mark.usefixtures("two_iterations")
@pytest.mark.parametrize("by", [(), ("task",), ("iteration", "task", "policy", "station")])
def test_counts_that_are_kept_equal_those_counted_from_every_episode(
    database: Database, by: tuple[str, ...]
) -> None:
    kept, counted = asked(database, *by), asked(database, *by, since=SINCE_EVER)
    assert [replace(one, robot_seconds=0.0) for one in kept] == [
        replace(one, robot_seconds=0.0) for one in counted
    ]
    assert [one.robot_seconds for one in kept] == pytest.approx([one.robot_seconds for one in counted])


def test_only_episodes_that_began_in_the_time_are_counted(
    database: Database, an_iteration: Callable, committed: Callable, an_episode: Callable
) -> None:
    episode = an_episode(1)
    committed(episode, iteration_id=an_iteration().id)
    begun = episode.manifest.started_at
    second = timedelta(seconds=1)
    assert told(asked(database, since=begun, until=begun + second)) == {(): (1, 1, 0, 0)}
    assert asked(database, "task", since=begun + second) == []
    assert asked(database, "task", until=begun) == []


def test_robot_time_is_that_of_every_episode_also_of_invalid_ones(
    database: Database, an_iteration: Callable, committed: Callable, an_episode: Callable
) -> None:
    iteration = an_iteration().id
    committed(an_episode(1, steps=3), iteration_id=iteration)
    committed(an_episode(2, steps=7, policy_eval=False), iteration_id=iteration)
    (found,) = asked(database, "iteration")
    assert found.robot_seconds == pytest.approx(2.0, abs=1e-3)  # (3 + 7) steps at 5 Hz


def test_policies_are_kept_apart_and_the_newer_comes_first(
    database: Database,
    blobs: BlobStore,
    now: datetime,
    an_iteration: Callable,
    committed: Callable,
    an_episode: Callable,
    tmp_path: Path,
) -> None:
    iteration, made = an_iteration().id, []
    with database.write() as session:
        for name in ("old", "new"):
            (tmp_path / name).write_text(name)
            new = checkpoints.NewCheckpoint(kind="policy", spec_digest="5" * 64)
            made.append(checkpoints.save(session, blobs, new, file=tmp_path / name, now=now).id)
    for number, policy in enumerate([*made, None]):
        committed(an_episode(number), iteration_id=iteration, checkpoint_id=policy)
    found = asked(database, "policy")
    assert [(one.policy, one.policy_number) for one in found] == [(made[1], 2), (made[0], 1), (None, None)]
    with database.read() as session:
        kept = success_counts.of_iterations(session, [iteration])
    assert {row.checkpoint_id for row in kept} == {*made, None}
    assert {(row.successes, row.judged) for row in kept} == {(1, 1)}
    known = [row.checkpoint_id for row in kept if row.checkpoint_id]
    assert known == made, "the older policy first"


def test_a_verdict_that_comes_later_is_counted_at_once(
    database: Database, now: datetime, an_iteration: Callable, committed: Callable, an_episode: Callable
) -> None:
    episode = committed(an_episode(1, labels=()), iteration_id=an_iteration().id)
    assert told(asked(database)) == {(): (0, 0, 1, 0)}
    for source, counted in (("vlm", (0, 1, 0, 0)), ("human", (1, 1, 0, 0)), ("classifier", (1, 1, 0, 0))):
        verdict = labels.Verdict(success=source == "human", source=source, at=now)
        with database.write() as session:
            labels.append(session, episode.id, verdict, now=now)
        assert told(asked(database)) == {(): counted}


def test_whatever_judges_say_the_count_agrees_with_the_verdict_that_counts(
    sqlite_database: Database, blobs: BlobStore, now: datetime, an_episode: Callable
) -> None:
    random = Random(11)
    for number in range(12):
        built, provenance = (
            an_episode(number, labels=(), task_id=f"task-{number}"),
            Provenance(origin="collect"),
        )
        with sqlite_database.write() as session:
            episode, _ = commit(session, blobs, built, provenance=provenance, now=now)
            for _ in range(random.randrange(7)):
                verdict = labels.Verdict(
                    success=random.choice([True, False, None]),
                    source=random.choice(labels.SOURCES),
                    at=now + timedelta(hours=random.randrange(3)),
                )
                labels.append(session, episode.id, verdict, now=now)
        with sqlite_database.read() as session:
            label = labels.effective_label(session, episode.id)
        found = next(one for one in asked(sqlite_database, "task") if one.task == episode.task_id)
        expected = (0, 0, 1) if label is None else (int(label.success), 1, 0)
        assert (found.successes, found.judged, found.unlabelled) == expected


def test_rebuilding_changes_nothing_but_finds_what_came_in_past_it(
    database: Database, two_iterations: tuple[str, str]
) -> None:
    before = told(asked(database, "iteration", "task"))
    with database.write() as session:
        session.execute(sa.update(EpisodeRow).values(valid_for_policy_eval=False))
        assert told(success_counts.grouped(session, CountQuery(by=("iteration", "task")))[0]) == before
        success_counts.rebuild(session)
    assert told(asked(database, "iteration")) == {(1,): (0, 0, 0, 5), (2,): (0, 0, 0, 1)}


def test_pages_hold_every_group_once_though_iterations_come_in_between(
    database: Database, an_iteration: Callable, committed: Callable, an_episode: Callable
) -> None:
    for number in range(1, 6):
        committed(an_episode(number), iteration_id=an_iteration(seed=number).id)
    seen, cursor = [], None
    for turn in range(4):
        with database.read() as session:
            page, cursor = success_counts.grouped(
                session, CountQuery(by=("iteration",)), cursor=cursor, limit=2
            )
        seen += [one.iteration for one in page]
        if cursor is None:
            break
        committed(an_episode(10 + turn), iteration_id=an_iteration(seed=10 + turn).id)
    assert seen == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("cursor", ["", "7", "a~b", "-1~3", "1~", "1~9999999999"])
def test_a_cursor_of_somebody_elses_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(CursorInvalid), database.read() as session:
        success_counts.grouped(session, CountQuery(), cursor=cursor)


def test_nothing_collected_gives_no_group(database: Database) -> None:
    assert asked(database, "task") == []
    assert asked(database) == []


def test_seconds_between_two_times_are_the_same_on_both_databases(
    database: Database, now: datetime, an_iteration: Callable
) -> None:
    row = an_iteration()
    with database.write() as session:
        found = session.get(type(row), row.id)
        found.started_at, found.finished_at = now, now + timedelta(days=40, seconds=1.25)
    iteration = type(row)
    with database.read() as session:
        forth = session.scalar(sa.select(seconds_between(iteration.started_at, iteration.finished_at)))
        back = session.scalar(sa.select(seconds_between(iteration.finished_at, iteration.started_at)))
        none = session.scalar(sa.select(seconds_between(iteration.started_at, sa.null())))
    assert forth == pytest.approx(40 * 86400 + 1.25, abs=1e-3)
    assert back == pytest.approx(-forth)
    assert none is None
