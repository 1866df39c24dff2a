"""The last value of each metric of a phase run. The whole series is a file of the run, not a table."""

import math
from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.errors import MetricNotFinite
from storage.tables import MetricSummaryRow


def record(session: Session, phase_run_id: str, values: Mapping[str, float], *, now: datetime) -> None:
    """Keep these values; a metric recorded before is overwritten, the others stay.

    Raises:
        MetricNotFinite: a value is NaN or infinite; none of them is kept.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise MetricNotFinite(phase_run_id=phase_run_id, name=name, value=value)
    for name, value in values.items():
        session.merge(
            MetricSummaryRow(phase_run_id=phase_run_id, name=name, value=float(value), recorded_at=now)
        )
    session.flush()


def read(session: Session, phase_run_id: str) -> dict[str, float]:
    """Name to last value, sorted by name; empty when nothing was recorded."""
    query = sa.select(MetricSummaryRow).where(MetricSummaryRow.phase_run_id == phase_run_id)
    return {row.name: row.value for row in session.scalars(query.order_by(MetricSummaryRow.name))}
