"""On which devices phase runs were, and for how long the learning ones kept them busy."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import phase_runs
from storage.claims import ClaimedRun
from storage.columns import NAME_LENGTH
from storage.tables import PhaseRunRow

Span = tuple[datetime, datetime]

LEARNING: Final = ("finetune_world_model", "update_policy")  # the phases that compute from begin to end
UNKNOWN_DEVICE: Final = "unknown"


def note_device(session: Session, claimed: ClaimedRun, device: str) -> None:
    """Keep the name of the device that a run is on.

    Raises:
        LeaseLost: the run was given to somebody else, ended or cancelled; stop.
    """
    run = phase_runs.require_held(session, claimed.phase_run_id, fence=claimed.fence)
    run.device = device.strip()[:NAME_LENGTH] or None
    session.flush()


def ended() -> sa.ColumnElement[datetime]:
    """When a run ended; one that still runs, or that others gave up later, when it was heard of last."""
    run = PhaseRunRow
    silent = (run.state == "abandoned") | (run.error_code == phase_runs.ATTEMPTS_EXHAUSTED)
    return sa.case(
        (silent, sa.func.coalesce(run.heartbeat_at, run.started_at)),
        else_=sa.func.coalesce(run.finished_at, run.heartbeat_at),
    )


def learned(
    session: Session, *, iteration_id: str | None = None, since: datetime | None = None
) -> list[Span]:
    """From when to when attempts at learning phases were busy, the earliest first.

    Args:
        iteration_id: of this iteration alone; None means of all.
        since: those that were over by then are left out.
    """
    run, until = PhaseRunRow, ended()
    query = sa.select(run.started_at, until).where(
        run.phase.in_(LEARNING), run.started_at.is_not(None), until.is_not(None)
    )
    if iteration_id is not None:
        query = query.where(run.iteration_id == iteration_id)
    if since is not None:
        query = query.where(until > since)
    found = session.execute(query.order_by(run.started_at, run.id))
    return [(begun, over) for begun, over in found if begun is not None]
