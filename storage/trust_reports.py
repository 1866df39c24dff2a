"""What was measured of a world model on held-out real episodes; one row per measurement, never changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import checkpoints, events
from storage.canonical import as_json
from storage.tables import TrustReportRow

ACCEPTED, REJECTED, MEASURED = "accepted", "rejected", "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTrustReport:
    """The numbers that lists are sorted and filtered by, and the whole report as JSON.

    Attributes:
        verdict: what the gate said of a candidate, or MEASURED where nothing was to be decided.
        horizon: steps that may be imagined.
    """

    checkpoint_id: str
    iteration_id: str | None
    verdict: str
    episodes: int
    horizon: int
    agreement: float | None
    optimism: float | None
    sensitivity: float | None
    report: Mapping[str, Any]


def save(session: Session, new: NewTrustReport, *, now: datetime) -> TrustReportRow:
    """Add a report.

    Raises:
        RowMissing: there is no such checkpoint.
        NotJson: the report holds something that JSON cannot, such as NaN.
    """
    checkpoints.get(session, new.checkpoint_id)
    row = TrustReportRow(
        checkpoint_id=new.checkpoint_id,
        iteration_id=new.iteration_id,
        verdict=new.verdict,
        episodes=new.episodes,
        horizon=new.horizon,
        agreement=new.agreement,
        optimism=new.optimism,
        sensitivity=new.sensitivity,
        report=as_json(new.report, what="a trust report"),
        measured_at=now,
    )
    session.add(row)
    session.flush()
    if new.verdict != MEASURED:
        facts = {"checkpoint_id": row.checkpoint_id, "horizon": row.horizon}
        events.note(session, f"gate_{new.verdict}", at=now, facts=facts, iteration_id=new.iteration_id)
    return row


def of_checkpoint(session: Session, checkpoint_id: str) -> list[TrustReportRow]:
    """Every report on a checkpoint, newest first.

    Raises:
        RowMissing: there is no such checkpoint.
    """
    checkpoints.get(session, checkpoint_id)
    query = sa.select(TrustReportRow).where(TrustReportRow.checkpoint_id == checkpoint_id)
    return list(session.scalars(query.order_by(TrustReportRow.measured_at.desc(), TrustReportRow.id)))
