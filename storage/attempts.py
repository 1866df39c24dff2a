"""Attempts at a phase, counted: how many ended badly, how many a full disk ended, how long all of them took.

Attempts that a retry has forgiven do not count.
"""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.claims import ClaimedRun
from storage.tables import PhaseRunRow

NO_END_OF_FULL_DISKS = (
    "the disk was full in {most} attempts, each of which had begun with room: give the data directory more, "
    "or ask the phase for less, then retry the iteration. The last one was "
)


def counted(session: Session, run: PhaseRunRow, *, uncounted: Collection[str]) -> int:
    """How many attempts at the phase of this run ended badly; abandoned ones with these codes did not."""
    query = sa.select(sa.func.count()).where(
        *_alike(run.iteration_id, run.phase),
        sa.or_(
            PhaseRunRow.state != "abandoned",  # what failed counts, whatever it calls itself
            sa.func.coalesce(PhaseRunRow.error_code, "").not_in(uncounted),
        ),
    )
    return session.scalars(query).one()


def ended_by(session: Session, run: PhaseRunRow, *, code: str) -> int:
    """How many attempts at the phase of this run have an error code; the run itself counts if it has it."""
    query = sa.select(sa.func.count()).where(
        *_alike(run.iteration_id, run.phase), PhaseRunRow.error_code == code
    )
    return session.scalars(query).one()


def used_s(session: Session, claimed: ClaimedRun) -> float:
    """Seconds that the attempts which are over took, each from its beginning to its end."""
    query = sa.select(PhaseRunRow).where(*_alike(claimed.iteration_id, claimed.phase))
    return sum(
        max(0.0, (run.finished_at - run.started_at).total_seconds())
        for run in session.scalars(query)
        if run.started_at is not None and run.finished_at is not None
    )


def _alike(iteration_id: str, phase: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        PhaseRunRow.iteration_id == iteration_id,
        PhaseRunRow.phase == phase,
        PhaseRunRow.forgiven.is_(False),
    )
