"""What others than its worker know of a phase run: what a queued one waits for, and that a worker is dead."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import leases
from storage.phase_runs import lease_name
from storage.tables import PhaseRunRow


def queued_without(session: Session, text: str) -> list[PhaseRunRow]:
    """Queued runs that do not say this yet."""
    query = sa.select(PhaseRunRow).where(PhaseRunRow.state == "queued", PhaseRunRow.progress_text != text)
    return list(session.scalars(query))


def say_waiting(session: Session, text: str) -> None:
    """Let every queued run say what it waits for; the worker that takes it says something else."""
    for run in queued_without(session, text):
        run.progress_text = text
    session.flush()


def note_death(session: Session, worker: str, *, code: str, message: str, now: datetime) -> list[PhaseRunRow]:
    """A worker is dead: whatever it had is free at once, and `abandon_expired` ends it with this reason.

    Returns:
        The runs that it had.
    """
    query = sa.select(PhaseRunRow).where(PhaseRunRow.state == "running", PhaseRunRow.worker == worker)
    runs = list(session.scalars(query.with_for_update()))
    for run in runs:
        leases.revoke(session, lease_name(run.iteration_id, run.phase), now=now)
        run.error_code, run.error_message = code, message
    session.flush()
    return runs
