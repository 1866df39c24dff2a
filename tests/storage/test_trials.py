"""Trials: decisions in order, and which policy is the champion after each."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import checkpoints, trials
from storage.blobs import BlobStore
from storage.db import Database
from storage.errors import NotJson, RowMissing
from storage.lineages import MAIN
from storage.tables import IterationRow, TrialRow
from storage.trials import NewTrial

Policy = Callable[[str], str]


@pytest.fixture
def policy(database: Database, blobs: BlobStore, tmp_path: Path, now: datetime) -> Policy:
    """Keep one more policy; its id."""

    def keep(name: str) -> str:
        file = tmp_path / name
        file.write_bytes(name.encode())
        new = checkpoints.NewCheckpoint(kind="policy", spec_digest="5" * 64)
        with database.write() as session:
            return checkpoints.save(session, blobs, new, file=file, now=now).id

    return keep


def decided(database: Database, old: str, new: str, now: datetime, *, decision: str, **rest: object) -> None:
    trial = NewTrial(
        champion_id=old,
        candidate_id=new,
        decision=decision,
        **{"iteration_id": None, "evidence": {}, **rest},  # type: ignore[arg-type]
    )
    with database.write() as session:
        trials.save(session, trial, now=now)


def goes_on(database: Database) -> str | None:
    with database.read() as session:
        row = trials.latest(session, MAIN)
    return None if row is None else row.goes_on_id


def test_nothing_is_decided_at_first(database: Database) -> None:
    assert goes_on(database) is None


@pytest.mark.parametrize(
    ("decision", "candidate_goes_on"),
    [
        ("promoted", True), ("adopted", True), ("rolled_back", True),
        ("rejected", False), ("undecided", False),
    ],
)  # fmt: skip
def test_who_goes_on_follows_from_the_decision(
    database: Database, policy: Policy, now: datetime, decision: str, candidate_goes_on: bool
) -> None:
    old, new = policy("old"), policy("new")
    decided(database, old, new, now, decision=decision)
    assert goes_on(database) == (new if candidate_goes_on else old)


def test_the_newest_decision_is_in_force_and_each_keeps_its_evidence(
    database: Database, policy: Policy, now: datetime, an_iteration: Callable[..., IterationRow]
) -> None:
    first, second, third = policy("first"), policy("second"), policy("third")
    iteration = an_iteration().id
    decided(database, first, second, now, decision="promoted", iteration_id=iteration, evidence={"p": 0.99})
    decided(database, second, third, now, decision="rejected")
    assert goes_on(database) == second
    with database.read() as session:
        (row,) = trials.of_iteration(session, iteration)
        assert (row.number, row.evidence, row.decided_at) == (1, {"p": 0.99}, now)
        assert trials.latest(session, MAIN).number == 2  # type: ignore[union-attr]


def test_it_is_known_who_was_tried_and_what_made_a_champion(
    database: Database, policy: Policy, now: datetime
) -> None:
    first, second, third = policy("first"), policy("second"), policy("third")
    decided(database, first, second, now, decision="promoted")
    decided(database, second, third, now, decision="undecided")
    with database.read() as session:
        assert [trials.was_tried(session, each, lineage=MAIN) for each in (first, second, third)] == [
            False,
            True,
            True,
        ]
        crowned = trials.crowning(session, second, lineage=MAIN)
        assert crowned is not None
        assert crowned.champion_id == first
        assert trials.crowning(session, first, lineage=MAIN) is None
        assert trials.crowning(session, third, lineage=MAIN) is None


Decided = tuple[str, str, str]  # the names of champion and candidate, and the decision


@pytest.mark.parametrize(
    ("history", "legs"),
    [
        ([], []),
        ([("a", "b", "undecided")], [0]),
        ([("a", "b", "undecided"), ("a", "b", "undecided")], [0, 1]),
        ([("a", "c", "undecided"), ("a", "b", "undecided")], [1]),  # another candidate's
        ([("c", "b", "undecided"), ("a", "b", "undecided")], [1]),  # against another champion
        ([("a", "b", "undecided"), ("a", "b", "promoted")], []),
        ([("a", "b", "undecided"), ("a", "b", "rejected")], []),
        ([("a", "b", "undecided"), ("a", "c", "rejected")], []),  # not the newest trial
        ([("a", "b", "undecided"), ("a", "c", "rolled_back")], [0]),  # no trial; the champion tells
        ([("a", "b", "undecided"), ("a", "c", "adopted")], [0]),
    ],
)
def test_an_undecided_trial_consists_of_its_decisions_in_order(
    database: Database,
    policy: Policy,
    now: datetime,
    an_iteration: Callable[..., IterationRow],
    history: list[Decided],
    legs: list[int],
) -> None:
    ids = {name: policy(name) for name in "abc"}
    made = [an_iteration(seed=number).id for number in range(len(history) + 1)]
    for (old, new, decision), iteration in zip(history, made, strict=False):
        decided(database, ids[old], ids[new], now, decision=decision, iteration_id=iteration)
    with database.read() as session:
        found = trials.undecided(session, MAIN, besides=made[-1])
        assert [row.iteration_id for row in found] == [made[leg] for leg in legs]
        assert trials.undecided(session, "elsewhere", besides=made[-1]) == []


def test_what_an_iteration_decided_itself_is_left_out_for_it(
    database: Database, policy: Policy, now: datetime, an_iteration: Callable[..., IterationRow]
) -> None:
    old, new = policy("old"), policy("new")
    first, second = (an_iteration(seed=number).id for number in (1, 2))
    decided(database, old, new, now, decision="undecided", iteration_id=first)
    decided(database, old, new, now, decision="promoted", iteration_id=second)
    with database.read() as session:
        (row,) = trials.undecided(session, MAIN, besides=second)
        assert row.iteration_id == first
        assert trials.latest(session, MAIN, besides=second) == row
        assert trials.latest(session, MAIN).goes_on_id == new  # type: ignore[union-attr]


def test_a_policy_that_does_not_exist_is_refused(database: Database, policy: Policy, now: datetime) -> None:
    with pytest.raises(RowMissing, match="checkpoint"):
        decided(database, policy("old"), "nobody", now, decision="promoted")


def test_evidence_that_json_cannot_hold_is_refused(database: Database, policy: Policy, now: datetime) -> None:
    with pytest.raises(NotJson):
        decided(database, policy("a"), policy("b"), now, decision="promoted", evidence={"p": float("nan")})


@pytest.mark.parametrize(
    ("history", "champion", "before"),
    [
        ([], "a", None),
        ([("a", "b", "promoted")], "b", "a"),
        ([("a", "b", "promoted")], "a", None),
        ([("a", "b", "adopted"), ("b", "c", "promoted")], "c", "b"),
        ([("a", "b", "promoted"), ("b", "c", "promoted"), ("c", "b", "rolled_back")], "b", "a"),
        ([("a", "b", "promoted"), ("c", "b", "adopted")], "b", "c"),
        ([("a", "b", "promoted"), ("b", "c", "rejected")], "b", "a"),
    ],
)
def test_a_champion_took_the_place_of_the_one_that_it_last_beat_and_not_of_one_that_was_rolled_back(
    database: Database,
    policy: Policy,
    now: datetime,
    history: list[Decided],
    champion: str,
    before: str | None,
) -> None:
    ids = {name: policy(name) for name in "abc"}
    for old, new, decision in history:
        decided(database, ids[old], ids[new], now, decision=decision)
    with database.read() as session:
        assert trials.before(session, ids[champion], lineage=MAIN) == (before and ids[before])


def test_what_people_decided_is_told_from_what_a_trial_did(
    database: Database, policy: Policy, now: datetime
) -> None:
    old, new = policy("old"), policy("new")
    decided(database, old, new, now, decision="adopted", evidence={trials.BY: "ann", "reason": ""})
    decided(database, old, new, now, decision="adopted")
    with database.read() as session:
        crowned = trials.crowning(session, new, lineage=MAIN)
        assert crowned is not None
        assert not trials.by_people(crowned)
        first = session.scalars(sa.select(TrialRow).where(TrialRow.number == 1)).one()
        assert trials.by_people(first)
