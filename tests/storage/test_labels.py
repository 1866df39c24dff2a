"""Labels: every verdict is kept, one of them counts, and success is counted from those."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise, permutations

import pytest

from storage import labels, success_counts
from storage.db import Database
from storage.errors import LabelSourceInvalid, RowMissing
from storage.labels import SOURCES, Verdict


def add(database: Database, episode_id: str, verdict: Verdict, now: datetime) -> None:
    with database.write() as session:
        labels.append(session, episode_id, verdict, now=now)


def counting(database: Database, episode_id: str) -> tuple[bool | None, str] | None:
    with database.read() as session:
        label = labels.effective_label(session, episode_id)
    return (label.success, label.source) if label else None


@pytest.fixture
def unlabelled(committed: Callable, an_episode: Callable) -> str:
    return committed(an_episode(labels=())).id


def test_an_episode_without_a_verdict_has_no_label(database: Database, unlabelled: str) -> None:
    assert counting(database, unlabelled) is None


def test_a_verdict_is_kept_with_all_that_its_judge_said(
    database: Database, unlabelled: str, now: datetime
) -> None:
    said = Verdict(
        success=True,
        source="classifier",
        at=now,
        judge="paligemma/3",
        answer="yes, it is open",
        confidence=0.875,
    )
    add(database, unlabelled, said, now + timedelta(minutes=1))
    with database.read() as session:
        label = labels.effective_label(session, unlabelled)
    assert label is not None
    assert (label.judge, label.answer, label.confidence) == ("paligemma/3", "yes, it is open", 0.875)
    assert (label.labelled_at, label.recorded_at) == (now, now + timedelta(minutes=1))


@pytest.mark.parametrize("order", list(permutations(SOURCES))[::5])
def test_the_most_trusted_source_counts_whatever_came_last(
    database: Database, unlabelled: str, now: datetime, order: tuple[str, ...]
) -> None:
    for turn, source in enumerate(order):
        at = now + timedelta(minutes=turn)
        add(database, unlabelled, Verdict(success=source == "human", source=source, at=at), now)
    assert counting(database, unlabelled) == (True, "human")


@pytest.mark.parametrize(("better", "worse"), list(pairwise(SOURCES)))
def test_each_source_outranks_the_next(
    database: Database, unlabelled: str, now: datetime, better: str, worse: str
) -> None:
    add(database, unlabelled, Verdict(success=True, source=better, at=now), now)
    add(database, unlabelled, Verdict(success=False, source=worse, at=now + timedelta(days=1)), now)
    assert counting(database, unlabelled) == (True, better)


def test_of_one_source_the_newest_verdict_counts_not_the_last_recorded(
    database: Database, unlabelled: str, now: datetime
) -> None:
    add(database, unlabelled, Verdict(success=True, source="human", at=now + timedelta(hours=1)), now)
    add(database, unlabelled, Verdict(success=False, source="human", at=now), now)
    assert counting(database, unlabelled) == (True, "human")


def test_of_two_verdicts_at_one_time_the_one_recorded_later_counts(
    database: Database, unlabelled: str, now: datetime
) -> None:
    add(database, unlabelled, Verdict(success=True, source="human", at=now), now)
    add(database, unlabelled, Verdict(success=False, source="human", at=now), now)
    assert counting(database, unlabelled) == (False, "human")


def test_a_judge_that_cannot_tell_never_hides_one_that_can(
    database: Database, unlabelled: str, now: datetime
) -> None:
    add(database, unlabelled, Verdict(success=None, source="human", at=now + timedelta(hours=1)), now)
    assert counting(database, unlabelled) is None
    add(database, unlabelled, Verdict(success=False, source="vlm", at=now), now)
    assert counting(database, unlabelled) == (False, "vlm")


def test_every_verdict_stays_in_the_history_in_order(
    database: Database, unlabelled: str, now: datetime
) -> None:
    for success in (True, None, False):
        add(database, unlabelled, Verdict(success=success, source="vlm", at=now), now)
    with database.read() as session:
        assert [row.success for row in labels.history(session, unlabelled)] == [True, None, False]


def test_many_episodes_are_asked_for_at_once(
    database: Database, committed: Callable, an_episode: Callable, a_label: Callable
) -> None:
    won = committed(an_episode(1, labels=(a_label(True),))).id
    lost = committed(an_episode(2, labels=(a_label(False),))).id
    open_ = committed(an_episode(3, labels=())).id
    committed(an_episode(4))
    with database.read() as session:
        found = labels.effective_labels(session, [won, lost, open_])
        assert labels.effective_labels(session, []) == {}
    assert {episode: label.success for episode, label in found.items()} == {won: True, lost: False}


def test_a_verdict_from_an_unknown_source_is_refused(
    database: Database, unlabelled: str, now: datetime
) -> None:
    with pytest.raises(LabelSourceInvalid, match="expected one of human, sim_predicate, classifier, vlm"):
        add(database, unlabelled, Verdict(success=True, source="guess", at=now), now)


def test_a_verdict_on_no_episode_is_refused(database: Database, now: datetime) -> None:
    with pytest.raises(RowMissing, match="no episode 'nobody'"):
        add(database, "nobody", Verdict(success=True, source="human", at=now), now)


def counts(database: Database, iteration_id: str) -> dict[str, tuple[int, int]]:
    with database.read() as session:
        return success_counts.by_task(session, iteration_id=iteration_id)


def test_success_is_counted_per_task(
    database: Database, an_iteration: Callable, committed: Callable, an_episode: Callable, a_label: Callable
) -> None:
    iteration = an_iteration()
    results = {"open_drawer": [True, True, False], "close_drawer": [False]}
    number = 0
    for task_id, successes in results.items():
        for success in successes:
            number += 1
            episode = an_episode(number, task_id=task_id, labels=(a_label(success),))
            committed(episode, iteration_id=iteration.id)
    assert counts(database, iteration.id) == {"close_drawer": (0, 1), "open_drawer": (2, 3)}


@pytest.mark.parametrize(
    ("change", "provenance", "counted"),
    [
        ({}, {}, True),
        ({}, {"held_out": True}, True),  # held out from training, not from the robot
        ({"world_model": False}, {}, True),
        ({"policy_eval": False}, {}, False),  # a hardware abort says nothing of the policy
        ({"labels": ()}, {}, False),
        ({}, {"origin": "imported"}, False),
        ({}, {"origin": "base"}, False),
    ],
)
def test_only_real_labelled_valid_episodes_count(
    database: Database,
    an_iteration: Callable,
    committed: Callable,
    an_episode: Callable,
    change: dict[str, object],
    provenance: dict[str, object],
    counted: bool,
) -> None:
    iteration = an_iteration()
    committed(an_episode(1, **change), iteration_id=iteration.id, **provenance)
    assert counts(database, iteration.id) == ({"open_drawer": (1, 1)} if counted else {})


def test_a_label_without_an_answer_is_not_a_failure(
    database: Database, an_iteration: Callable, committed: Callable, an_episode: Callable, a_label: Callable
) -> None:
    iteration = an_iteration()
    committed(an_episode(1, labels=(a_label(None),)), iteration_id=iteration.id)
    assert counts(database, iteration.id) == {}


def test_relabelling_changes_the_count_and_never_doubles_it(
    database: Database, an_iteration: Callable, committed: Callable, an_episode: Callable, now: datetime
) -> None:
    iteration = an_iteration()
    episode = committed(an_episode(1), iteration_id=iteration.id)
    assert counts(database, iteration.id) == {"open_drawer": (1, 1)}
    add(database, episode.id, Verdict(success=False, source="human", at=now), now)
    assert counts(database, iteration.id) == {"open_drawer": (0, 1)}
    add(database, episode.id, Verdict(success=True, source="vlm", at=now), now)
    assert counts(database, iteration.id) == {"open_drawer": (0, 1)}


def test_other_iterations_are_not_counted(
    database: Database, an_iteration: Callable, committed: Callable, an_episode: Callable
) -> None:
    mine, other = an_iteration(), an_iteration()
    committed(an_episode(1), iteration_id=mine.id)
    committed(an_episode(2), iteration_id=other.id)
    committed(an_episode(3))
    assert counts(database, mine.id) == {"open_drawer": (1, 1)}


def test_an_iteration_without_episodes_counts_nothing(database: Database, an_iteration: Callable) -> None:
    assert counts(database, an_iteration().id) == {}


def test_all_verdicts_of_many_episodes_are_named_in_the_order_they_came_in(
    database: Database, committed: Callable, an_episode: Callable, now: datetime
) -> None:
    rows = [committed(an_episode(number, labels=())) for number in range(1, 4)]
    for row, success in ((rows[0], True), (rows[1], None), (rows[0], False)):
        add(database, row.id, Verdict(success=success, source="human", at=now), now)
    with database.read() as session:
        found = labels.ids_of(session, [row.id for row in rows])
        wanted = {row.id: [label.id for label in labels.history(session, row.id)] for row in rows[:2]}
        assert labels.ids_of(session, []) == {}
    assert found == wanted
    assert [len(ids) for ids in found.values()] == [2, 1]
