"""On which devices phase runs were, and for how long the learning ones kept them busy."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from storage import device_time, ledger, phase_runs
from storage.claims import ClaimedRun
from storage.columns import NAME_LENGTH
from storage.db import Database
from storage.errors import LeaseLost
from storage.tables import IterationRow, PhaseRunRow

MINUTE = timedelta(minutes=1)


def begun(database: Database, row: IterationRow, phase: str, *, at: datetime) -> ClaimedRun:
    with database.write() as session:
        phase_runs.queue(session, session.get_one(IterationRow, row.id), phase=phase, now=at)
        claimed = phase_runs.claim(session, "w", ttl_s=3600.0, now=at)
    assert claimed is not None
    return claimed


def noted(database: Database, claimed: ClaimedRun, device: str) -> str | None:
    with database.write() as session:
        device_time.note_device(session, claimed, device)
    with database.read() as session:
        return phase_runs.get(session, claimed.phase_run_id).device


def finished(
    database: Database, row: IterationRow, phase: str, *, at: datetime, minutes: int, device: str | None
) -> None:
    claimed = begun(database, row, phase, at=at)
    if device is not None:
        noted(database, claimed, device)
    with database.write() as session:
        phase_runs.finish(session, claimed, outcome={}, now=at + minutes * MINUTE)


@pytest.mark.parametrize(
    ("device", "kept"),
    [
        ("NVIDIA H200", "NVIDIA H200"),
        (" AMD EPYC 7763 64-Core Processor\n", "AMD EPYC 7763 64-Core Processor"),
        ("x" * 900, "x" * NAME_LENGTH),
        (" ", None),
    ],
)
def test_a_run_names_its_device_and_nothing_longer_than_a_name(
    database: Database, an_iteration: Callable, now: datetime, device: str, kept: str | None
) -> None:
    claimed = begun(database, an_iteration(), "collect", at=now)
    assert noted(database, claimed, device) == kept


def test_who_lost_its_run_names_no_device(database: Database, an_iteration: Callable, now: datetime) -> None:
    stale = begun(database, an_iteration(), "update_policy", at=now)
    with database.write() as session:
        phase_runs.abandon_expired(session, now=now + 61 * MINUTE)
    with pytest.raises(LeaseLost):
        noted(database, stale, "NVIDIA H200")


def test_learning_phases_keep_devices_busy_and_collecting_does_not(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    row, other = an_iteration(), an_iteration(seed=2)
    finished(database, row, "collect", at=now, minutes=60, device="a")
    finished(database, row, "finetune_world_model", at=now, minutes=10, device="a")
    finished(database, other, "update_policy", at=now + 5 * MINUTE, minutes=20, device="b")
    with database.read() as session:
        assert device_time.learned(session) == [
            (now, now + 10 * MINUTE),
            (now + 5 * MINUTE, now + 25 * MINUTE),
        ]
        assert device_time.learned(session, iteration_id=row.id) == [(now, now + 10 * MINUTE)]
        assert device_time.learned(session, since=now + 10 * MINUTE) == [
            (now + 5 * MINUTE, now + 25 * MINUTE)
        ]


def test_one_that_runs_was_busy_until_it_was_heard_of_and_one_that_waits_was_not(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    row = an_iteration()
    claimed = begun(database, row, "finetune_world_model", at=now)
    with database.write() as session:
        phase_runs.heartbeat(session, claimed, progress=0.5, text="", now=now + 7 * MINUTE)
        phase_runs.queue(session, session.get_one(IterationRow, row.id), phase="update_policy", now=now)
    with database.read() as session:
        assert device_time.learned(session) == [(now, now + 7 * MINUTE)]


@pytest.mark.parametrize("code", [phase_runs.RELEASED, phase_runs.DEVICE_BUDGET_SPENT])
def test_what_was_given_back_has_been_used(
    database: Database, an_iteration: Callable, now: datetime, code: str
) -> None:
    claimed = begun(database, an_iteration(), "update_policy", at=now)
    with database.write() as session:
        phase_runs.heartbeat(session, claimed, progress=0.5, text="", now=now + 3 * MINUTE)
        phase_runs.release(session, claimed, now=now + 3 * MINUTE, code=code)
    with database.read() as session:
        assert device_time.learned(session) == [(now, now + 3 * MINUTE)]


def test_the_ledger_tells_hours_of_learning_by_device_over_all_attempts(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    row, other = an_iteration(), an_iteration(seed=2)
    finished(database, row, "collect", at=now, minutes=60, device="AMD EPYC")
    finished(database, row, "finetune_world_model", at=now, minutes=10, device="NVIDIA H200")
    for minutes, device in ((20, "NVIDIA H200"), (5, "AMD EPYC"), (2, None)):
        finished(database, row, "update_policy", at=now, minutes=minutes, device=device)
    with database.read() as session:
        found = ledger.spent(session, [row.id, other.id])
    assert found[row.id].device_seconds == pytest.approx(
        {"NVIDIA H200": 1800.0, "AMD EPYC": 300.0, "unknown": 120.0}, abs=1e-3
    )
    learned = sum(s for phase, s in found[row.id].worker_seconds.items() if phase in device_time.LEARNING)
    assert learned == pytest.approx(sum(found[row.id].device_seconds.values()))
    assert found[row.id].worker_seconds["update_policy"] == pytest.approx(27 * 60.0, abs=1e-3)
    assert found[other.id].device_seconds == {}


def test_the_phases_that_learn_are_phases() -> None:
    assert set(device_time.LEARNING) < set(phase_runs.PHASES)
    assert PhaseRunRow.device.type.length == NAME_LENGTH
