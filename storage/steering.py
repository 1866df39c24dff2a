"""What people do to an iteration: pause, resume, cancel, retry it, skip one of its phases.

Each act but a retry is safe to repeat: asking for what is so already changes nothing. A phase that runs is
never waited for here: a pause is a wish that its worker learns of at its next heartbeat, a cancel or a skip
takes its lease.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import iterations, leases, phase_runs
from storage.db import serialise
from storage.errors import IllegalMove, RowMissing
from storage.iterations import TURNS
from storage.phase_runs import PAUSE, PHASES
from storage.states import ITERATION_MOVES, move
from storage.tables import IterationRow, PhaseRunRow


def pause(session: Session, iteration_id: str, *, now: datetime) -> IterationRow:
    """Let an iteration wait where it is, and those of its lineage after it with it.

    One whose phase runs is asked to: it is paused once its worker has given the run back.

    Raises:
        RowMissing: there is none with this id.
        IllegalMove: it is over.
    """
    row = _steered(session, iteration_id)
    if row.state == "paused":
        return row
    if row.state == "running" and "running" in _states(session, row):
        row.wish = PAUSE
    else:
        move(row, "paused", now=now)
    session.flush()
    return row


def resume(session: Session, iteration_id: str, *, now: datetime) -> IterationRow:
    """Let a paused iteration go on, or forget that it was to be paused.

    Raises:
        RowMissing: there is none with this id.
        IllegalMove: it is over.
    """
    row = _steered(session, iteration_id)
    if row.state == "running":
        row.wish = None
    elif row.state != "requested":
        move(row, "requested" if row.started_at is None else "running", now=now)
    session.flush()
    return row


def cancel(session: Session, iteration_id: str, *, now: datetime) -> IterationRow:
    """End an iteration for good.

    Raises:
        RowMissing: there is none with this id.
        IllegalMove: it has finished or failed.
    """
    row = _steered(session, iteration_id)
    return row if row.state == "cancelled" else iterations.cancel(session, row.id, now=now)


def retry(session: Session, iteration_id: str, *, now: datetime) -> IterationRow:
    """Let a failed iteration go on from the phase that failed, when its turn comes.

    Its attempts so far are forgiven: the phase has all of them again. Finished phases are not repeated.

    Raises:
        RowMissing: there is none with this id.
        IllegalMove: it has not failed.
    """
    row = _steered(session, iteration_id)
    if row.state != "failed":
        allowed = [state for state in ITERATION_MOVES[row.state] if state != "requested"]
        what = f"a retry: iteration {row.number} ({row.id})"
        raise IllegalMove(what=what, old=row.state, new="requested", allowed=allowed)
    _go_on(row, now=now)
    for run in phase_runs.of_iteration(session, row.id):
        run.forgiven = run.forgiven or run.state in {"failed", "abandoned"}
    session.flush()
    return row


def skip(session: Session, iteration_id: str, *, phase: str, now: datetime) -> PhaseRunRow:
    """Let an iteration do without a phase; whoever runs it loses its lease.

    A failed iteration goes on once the phase that failed is skipped.

    Returns:
        The last attempt at the phase, now `skipped`.

    Raises:
        RowMissing: there is none with this id.
        IllegalMove: the iteration has finished or was cancelled, or the phase has finished.
        UnknownPhase: not one of PHASES.
    """
    row = _steered(session, iteration_id)
    last = phase_runs.latest(session, row.id, phase=phase, lock=True)
    if last is not None and last.state == "skipped":
        return last
    if row.state in {"finished", "cancelled"}:
        move(row, "running", now=now)  # refused, with the reason
    if last is not None and last.state == "finished":
        move(last, "skipped", now=now)  # refused as well
    run = phase_runs.queue(session, row, phase=phase, now=now)
    leases.revoke(session, phase_runs.lease_name(row.id, phase), now=now)
    move(run, "skipped", now=now)
    if row.state == "failed" and "failed" not in _states(session, row):
        _go_on(row, now=now)
    session.flush()
    return run


def _steered(session: Session, iteration_id: str) -> IterationRow:
    """The iteration as it is now, which nobody else moves until the transaction ends."""
    serialise(session, TURNS)
    query = sa.select(IterationRow).where(IterationRow.id == iteration_id).with_for_update(key_share=True)
    row = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        raise RowMissing(kind="iteration", row_id=iteration_id)
    return row


def _states(session: Session, row: IterationRow) -> set[str]:
    """How its phases stand."""
    newest = (phase_runs.latest(session, row.id, phase=phase, lock=True) for phase in PHASES)
    return {run.state for run in newest if run is not None and not run.forgiven}


def _go_on(row: IterationRow, *, now: datetime) -> None:
    move(row, "requested", now=now)
    row.error_code = row.error_message = None
