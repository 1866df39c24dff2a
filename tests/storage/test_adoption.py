"""What a lineage goes on from, and which policy is its champion."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from storage import adoption, checkpoints, phase_runs, trials
from storage.adoption import CANDIDATE
from storage.blobs import BlobStore
from storage.db import Database
from storage.lineages import MAIN
from storage.states import move
from storage.tables import CheckpointRow, IterationRow

Save = Callable[..., CheckpointRow]


@pytest.fixture
def save(database: Database, blobs: BlobStore, tmp_path: Path, now: datetime) -> Save:
    """Keep one more policy."""

    def keep(kind: str = "policy", **known: object) -> CheckpointRow:
        file = tmp_path / "policy"
        file.write_bytes(repr((kind, known)).encode())
        new = checkpoints.NewCheckpoint(kind=kind, spec_digest="5" * 64, **known)  # type: ignore[arg-type]
        with database.write() as session:
            return checkpoints.save(session, blobs, new, file=file, now=now)

    return keep


def decide(database: Database, old: CheckpointRow, new: CheckpointRow, now: datetime, decision: str) -> None:
    trial = trials.NewTrial(
        iteration_id=None, champion_id=old.id, candidate_id=new.id, decision=decision, evidence={}
    )
    with database.write() as session:
        trials.save(session, trial, now=now)


def test_what_was_brought_in_is_gone_on_from_unless_it_was_to_be_kept_only(
    database: Database, save: Save
) -> None:
    first, second = save(), save(lineage="b")
    save(card={CANDIDATE: True})
    save("judge")
    with database.read() as session:
        found = {name: adoption.adoptable(session, "policy", lineage=name) for name in (MAIN, "b")}
    assert {name: [row.id for row in rows] for name, rows in found.items()} == {
        MAIN: [first.id],
        "b": [second.id, first.id],
    }


def test_what_an_attempt_saved_is_gone_on_from_once_its_phase_has_finished(
    database: Database, save: Save, now: datetime, an_iteration: Callable[..., IterationRow]
) -> None:
    iteration = an_iteration()
    made, left = save(iteration_id=iteration.id, card={"n": 1}), save(iteration_id=iteration.id)
    with database.write() as session:
        row = session.get_one(IterationRow, iteration.id)
        move(row, "running", now=now)
        phase_runs.queue(session, row, phase="update_policy", now=now)
        claimed = phase_runs.claim(session, "w", ttl_s=60, now=now)
        assert claimed is not None
        assert adoption.adoptable(session, "policy", lineage=MAIN) == []
        phase_runs.finish(session, claimed, outcome={"made": {"policy": made.id}}, now=now)
    with database.read() as session:
        (found,) = adoption.adoptable(session, "policy", lineage=MAIN)
    assert found.id == made.id != left.id


def test_before_any_decision_the_oldest_is_champion_and_then_whom_the_newest_decision_names(
    database: Database, save: Save, now: datetime
) -> None:
    def champion() -> str | None:
        with database.read() as session:
            row = adoption.champion(session, MAIN)
        return None if row is None else row.id

    assert champion() is None
    first, second = save(), save(card={"n": 2})
    assert champion() == first.id
    decide(database, first, second, now, "rejected")
    assert champion() == first.id
    decide(database, first, second, now, "promoted")
    assert champion() == second.id


def test_every_lineage_has_a_champion_and_a_newest_judge_of_its_own(
    database: Database, save: Save, an_iteration: Callable[..., IterationRow]
) -> None:
    with database.read() as session:
        assert (adoption.champions(session), adoption.newest(session, "judge")) == ({}, {})
    an_iteration(lineage="b")
    everyones, bs = save(), save(lineage="b")
    judge, bs_judge = save("judge"), save("judge", lineage="b")
    with database.read() as session:
        champions, judges = adoption.champions(session), adoption.newest(session, "judge")
    assert {name: row.id for name, row in champions.items()} == {MAIN: everyones.id, "b": everyones.id}
    assert {name: row.id for name, row in judges.items()} == {MAIN: judge.id, "b": bs_judge.id}
    assert bs.id not in {row.id for row in champions.values()}
