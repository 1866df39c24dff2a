"""Trials: decisions in order, and which policy is the champion after each."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from storage import checkpoints, trials
from storage.blobs import BlobStore
from storage.db import Database
from storage.errors import NotJson, RowMissing
from storage.lineages import MAIN
from storage.tables import IterationRow
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


def test_a_policy_that_does_not_exist_is_refused(database: Database, policy: Policy, now: datetime) -> None:
    with pytest.raises(RowMissing, match="checkpoint"):
        decided(database, policy("old"), "nobody", now, decision="promoted")


def test_evidence_that_json_cannot_hold_is_refused(database: Database, policy: Policy, now: datetime) -> None:
    with pytest.raises(NotJson):
        decided(database, policy("a"), policy("b"), now, decision="promoted", evidence={"p": float("nan")})
