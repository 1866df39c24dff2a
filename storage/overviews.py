"""What is shown of many iterations or checkpoints at once, in one query each; of one, see `phase_runs`."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import trials, trust_reports
from storage.phase_runs import PHASES
from storage.tables import PhaseRunRow, TrialRow, TrustReportRow


def outcomes_of(session: Session, iteration_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """What the phases of each iteration left, put together; of equal names the later phase's counts."""
    query = sa.select(PhaseRunRow.iteration_id, PhaseRunRow.outcome).where(
        PhaseRunRow.iteration_id.in_(iteration_ids), PhaseRunRow.state == "finished"
    )
    found: dict[str, dict[str, Any]] = {iteration_id: {} for iteration_id in iteration_ids}
    place = sa.case({phase: at for at, phase in enumerate(PHASES)}, value=PhaseRunRow.phase)
    for iteration_id, outcome in session.execute(query.order_by(place, PhaseRunRow.attempt)):
        found[iteration_id].update(outcome or {})
    return found


def trials_of(session: Session, iteration_ids: Collection[str]) -> list[TrialRow]:
    """What these iterations decided about policies, in order."""
    query = sa.select(TrialRow).where(TrialRow.iteration_id.in_(iteration_ids))
    return list(session.scalars(query.order_by(TrialRow.number)))


def trust_of(session: Session, iteration_ids: Collection[str]) -> list[TrustReportRow]:
    """What these iterations measured of world models, the oldest first."""
    query = sa.select(TrustReportRow).where(TrustReportRow.iteration_id.in_(iteration_ids))
    return list(session.scalars(query.order_by(TrustReportRow.measured_at, TrustReportRow.id)))


def rejected_among(session: Session, checkpoint_ids: Collection[str]) -> set[str]:
    """Those of these checkpoints that do not go on: policies by their trial, world models by their gate."""
    by_trial = sa.select(TrialRow.candidate_id).where(
        TrialRow.candidate_id.in_(checkpoint_ids), TrialRow.decision == trials.REJECTED
    )
    by_gate = sa.select(TrustReportRow.checkpoint_id).where(
        TrustReportRow.checkpoint_id.in_(checkpoint_ids), TrustReportRow.verdict == trust_reports.REJECTED
    )
    return set(session.scalars(by_trial.union(by_gate)))
