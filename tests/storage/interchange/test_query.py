"""Queries as people type them, and which episodes answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from robot_bridge.episode import Episode
from storage import labels
from storage.blobs import BlobStore
from storage.checkpoints import NewCheckpoint, save
from storage.db import Database
from storage.interchange.errors import QueryInvalid
from storage.interchange.query import (
    ExportQuery,
    Standing,
    Wanted,
    episode_ids,
    parse_query,
    spoken,
    wanted_by,
)
from storage.tables import EpisodeRow, IterationRow


def wanted(database: Database, *terms: str) -> Wanted:
    with database.read() as session:
        return wanted_by(session, parse_query(terms))


def answers(database: Database, *terms: str) -> list[str]:
    with database.read() as session:
        return episode_ids(session, parse_query(terms))


def test_terms_may_be_given_together_or_one_by_one_and_a_key_that_is_repeated_widens() -> None:
    query = parse_query(["task=open_drawer,task=close_drawer station=cell-1", "iteration=3", "success=TRUE"])
    assert query == ExportQuery(
        tasks=("open_drawer", "close_drawer"), stations=("cell-1",), iterations=(3,), success="yes"
    )


def test_a_date_without_a_zone_is_utc() -> None:
    query = parse_query(["since=2026-01-31", "until=2026-02-01T12:00:00+01:00"])
    assert query.since == datetime(2026, 1, 31, tzinfo=UTC)
    assert query.until == datetime(2026, 2, 1, 11, tzinfo=UTC)


def test_no_terms_ask_for_everything() -> None:
    assert parse_query([]) == ExportQuery()


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("colour=red", "a key of task, iteration"),
        ("task", "KEY=VALUE"),
        ("task=", "KEY=VALUE"),
        ("iteration=first", "the number of an iteration"),
        ("iteration=-1", "the number of an iteration"),
        ("success=perhaps", "yes, no or unknown"),
        ("held_out=unknown", "yes or no"),
        ("since=yesterday", "a date or time"),
    ],
)
def test_a_term_that_means_nothing_is_refused_by_its_name(term: str, expected: str) -> None:
    with pytest.raises(QueryInvalid, match=expected) as caught:
        parse_query(["task=open_drawer", term])
    assert repr(term) in str(caught.value)


@pytest.fixture
def three(
    database: Database,
    an_episode: Callable[..., Episode],
    committed: Callable[..., EpisodeRow],
    a_label: Callable[..., object],
    now: datetime,
) -> list[str]:
    """A success on the drawer, a failure at the sink that was imported, one that nobody judged."""
    rows = [
        committed(an_episode(1), held_out=True),
        committed(an_episode(2, task_id="sink", labels=(a_label(False),)), after_s=1, origin="imported"),
        committed(an_episode(3, labels=()), after_s=2),
    ]
    return [row.id for row in rows]


@pytest.mark.parametrize(
    ("terms", "places"),
    [
        ([], [0, 1, 2]),
        (["task=open_drawer"], [0, 2]),
        (["task=open_drawer", "task=sink"], [0, 1, 2]),
        (["task=nothing"], []),
        (["station=cell-1"], [0, 1, 2]),
        (["station=cell-2"], []),
        (["origin=imported"], [1]),
        (["held_out=yes"], [0]),
        (["held_out=no"], [1, 2]),
        (["success=yes"], [0]),
        (["success=no"], [1]),
        (["success=unknown"], [2]),
        (["success=yes task=sink"], []),
        (["since=2026-01-01T11:00:00"], [0, 1, 2]),
        (["since=2026-01-01T11:00:01"], []),
        (["until=2026-01-01T11:00:00"], []),
        (["until=2026-01-02"], [0, 1, 2]),
    ],
)
def test_only_episodes_that_answer_every_term_are_taken_oldest_commitment_first(
    database: Database, three: list[str], terms: list[str], places: list[int]
) -> None:
    assert answers(database, *terms) == [three[place] for place in places]


def test_the_verdict_that_counts_is_the_one_that_is_asked_for(
    database: Database, three: list[str], now: datetime
) -> None:
    with database.write() as session:
        verdict = labels.Verdict(success=False, source="human", at=now)
        labels.append(session, three[0], verdict, now=now + timedelta(seconds=1))
    assert answers(database, "success=no") == three[:2]


def test_what_is_wanted_tells_how_each_episode_stands(
    database: Database, three: list[str], now: datetime
) -> None:
    with database.read() as session:
        digests = [session.get_one(EpisodeRow, each).manifest_sha256 for each in three]
        ids = [tuple(row.id for row in labels.history(session, each)) for each in three]
    assert [len(each) for each in ids] == [1, 1, 0]
    assert wanted(database).episodes == tuple(
        Standing(episode_id=each, digest=digest, held_out=held_out, verdicts=verdicts)
        for each, digest, held_out, verdicts in zip(three, digests, (True, False, False), ids, strict=True)
    )
    with database.write() as session:
        verdict = labels.Verdict(success=True, source="human", at=now)
        for episode_id in (three[0], three[2]):
            labels.append(session, episode_id, verdict, now=now)
    with database.read() as session:
        first, _, last = (tuple(row.id for row in labels.history(session, each)) for each in three)
    assert [each.verdicts for each in wanted(database).episodes] == [first, ids[1], last]
    assert first[:1] == ids[0]
    (now_judged,) = wanted(database, "success=yes", "held_out=no").episodes
    assert (now_judged.episode_id, now_judged.verdicts) == (three[2], last)


def test_where_nothing_answers_nothing_is_wanted(database: Database, three: list[str]) -> None:
    assert wanted(database, "success=yes", "task=fly") == Wanted(query="task=fly success=yes", episodes=())


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ([], ""),
        (["success=TRUE", "task=b,task=a", "task=b"], "task=a task=b success=yes"),
        (["iteration=12 iteration=3", "policy=2"], "iteration=3 iteration=12 policy=2"),
        (["station=cell-1", "origin=base", "held_out=no"], "station=cell-1 origin=base held_out=no"),
        (
            ["since=2026-01-31", "until=2026-02-01T12:00:00+01:00"],
            "since=2026-01-31T00:00:00+00:00 until=2026-02-01T11:00:00+00:00",
        ),
    ],
)
def test_a_question_has_one_wording_which_asks_the_same(terms: list[str], words: str) -> None:
    assert spoken(parse_query(terms)) == words
    assert spoken(parse_query([words])) == words


@pytest.fixture
def policies(database: Database, blobs: BlobStore, tmp_path: Path, now: datetime) -> list[str]:
    """Policies 1 and 2, and a world model that is number 1 of its own kind."""
    ids = []
    for number, kind in enumerate(("policy", "policy", "world_model")):
        file = tmp_path / f"{number}.bin"
        file.write_bytes(bytes([number]))
        with database.write() as session:
            new = NewCheckpoint(kind=kind, spec_digest="ab" * 32)
            ids.append(save(session, blobs, new, file=file, now=now).id)
    return ids


def test_iterations_go_by_number_and_policies_by_number_or_id(
    database: Database,
    an_episode: Callable[..., Episode],
    committed: Callable[..., EpisodeRow],
    an_iteration: Callable[..., IterationRow],
    policies: list[str],
) -> None:
    first, second = an_iteration(), an_iteration()
    a = committed(an_episode(1), iteration_id=first.id, checkpoint_id=policies[0]).id
    b = committed(an_episode(2), iteration_id=second.id, checkpoint_id=policies[1]).id
    assert answers(database, "iteration=1") == [a]
    assert sorted(answers(database, "iteration=1 iteration=2")) == sorted([a, b])
    assert answers(database, "policy=2") == [b]
    assert answers(database, f"policy={policies[0]}") == [a]
    assert answers(database, "policy=7") == []


def test_an_episode_whose_files_were_let_go_answers_nothing(
    database: Database, blobs: BlobStore, an_episode: Callable, committed: Callable, now: datetime
) -> None:
    kept, gone = (committed(an_episode(number)) for number in (1, 2))
    with database.write() as session:
        session.get_one(EpisodeRow, gone.id).retired_at = now
    assert answers(database) == [kept.id]
