"""Trust reports: added, never changed, found by their checkpoint, newest first."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from storage import checkpoints, iterations, trust_reports
from storage.blobs import BlobStore
from storage.db import Database
from storage.errors import NotJson, RowMissing
from storage.trust_reports import NewTrustReport


@pytest.fixture
def checkpoint_id(database: Database, blobs: BlobStore, tmp_path: Path, now: datetime) -> str:
    file = tmp_path / "world_model.safetensors"
    file.write_bytes(b"weights")
    new = checkpoints.NewCheckpoint(kind="world_model", spec_digest="5" * 64)
    with database.write() as session:
        return checkpoints.save(session, blobs, new, file=file, now=now).id


def a_report(checkpoint_id: str, **changes: object) -> NewTrustReport:
    known = {
        "checkpoint_id": checkpoint_id,
        "iteration_id": None,
        "verdict": trust_reports.ACCEPTED,
        "episodes": 12,
        "horizon": 40,
        "agreement": 0.9,
        "optimism": -0.05,
        "sensitivity": 3.5,
        "report": {"drift": {"pixels": {"1": 0.002}}},
    }
    return NewTrustReport(**{**known, **changes})  # type: ignore[arg-type]


def test_reports_of_a_checkpoint_come_newest_first(
    database: Database, checkpoint_id: str, now: datetime
) -> None:
    with database.write() as session:
        iteration, _ = iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
        trust_reports.save(session, a_report(checkpoint_id, iteration_id=iteration.id), now=now)
        later = now + timedelta(minutes=1)
        trust_reports.save(session, a_report(checkpoint_id, verdict="measured", horizon=9), now=later)
    with database.read() as session:
        rows = trust_reports.of_checkpoint(session, checkpoint_id)
    assert [(row.verdict, row.horizon, row.measured_at) for row in rows] == [
        ("measured", 9, later),
        ("accepted", 40, now),
    ]
    assert rows[1].report == {"drift": {"pixels": {"1": 0.002}}}
    assert (rows[1].agreement, rows[1].optimism, rows[1].sensitivity) == (0.9, -0.05, 3.5)


def test_a_checkpoint_that_nobody_measured_has_none(database: Database, checkpoint_id: str) -> None:
    with database.read() as session:
        assert trust_reports.of_checkpoint(session, checkpoint_id) == []


def test_a_report_on_a_checkpoint_that_does_not_exist_is_refused(
    database: Database, checkpoint_id: str, now: datetime
) -> None:
    with database.write() as session, pytest.raises(RowMissing, match="checkpoint"):
        trust_reports.save(session, a_report("nobody"), now=now)
    with database.read() as session, pytest.raises(RowMissing, match="checkpoint"):
        trust_reports.of_checkpoint(session, "nobody")


def test_a_report_with_a_number_that_json_cannot_hold_is_refused(
    database: Database, checkpoint_id: str, now: datetime
) -> None:
    with database.write() as session, pytest.raises(NotJson):
        trust_reports.save(session, a_report(checkpoint_id, report={"psnr": float("nan")}), now=now)
