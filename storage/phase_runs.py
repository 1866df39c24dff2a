"""Attempts at phases: queued, claimed under a lease, kept alive by heartbeats, finished or tried again.

A lease belongs to one phase of one iteration, so each attempt gets a higher fence than the one before it. In
every function the run's row is locked before its lease. What a phase does is not here.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import attempts, events, leases
from storage.canonical import as_json
from storage.claims import ClaimedRun
from storage.db import serialise
from storage.errors import LeaseLost, MetricNotFinite, RowMissing, UnknownPhase
from storage.states import move
from storage.tables import IterationRow, LeaseRow, PhaseRunRow

PHASES = ("collect", "finetune_world_model", "update_policy")
MAX_ATTEMPTS = 5  # attempts that ended badly, per phase of an iteration
LEASE_EXPIRED = "lease_expired"
ATTEMPTS_EXHAUSTED = "attempts_exhausted"
RELEASED = "released"  # it was asked to stop or to pause; such an attempt does not count against the phase
DISK_FULL = "disk_full"  # waited for like a worker: nobody's fault, and it passes
MOST_DISK_FULL = 20  # attempts that a full disk ended, per phase: what fills it each time does not pass
DEVICE_BUDGET_SPENT = "device_budget_spent"  # the next attempt is asked for once there are hours again
UNCOUNTED = (RELEASED, DISK_FULL, DEVICE_BUDGET_SPENT)
CANCELLED = "cancelled"
OPEN = ("queued", "running")
PAUSE = "pause"  # the wish of an iteration whose running phase is asked to stop


def lease_name(iteration_id: str, phase: str) -> str:
    """The lease under which one phase of one iteration is done."""
    return f"phase:{iteration_id}:{phase}"


def queue(session: Session, iteration: IterationRow, *, phase: str, now: datetime) -> PhaseRunRow:
    """Ask for a phase to be done; if it is queued or running already, that run is returned.

    Raises:
        UnknownPhase: not one of PHASES.
    """
    if phase not in PHASES:
        raise UnknownPhase(phase=phase, known=PHASES)
    serialise(session, f"iteration:{iteration.id}")
    last = latest(session, iteration.id, phase=phase)
    if last is not None and last.state in OPEN:
        return last
    return _add(session, iteration.id, phase=phase, attempt=last.attempt + 1 if last else 1, now=now)


def claim(session: Session, worker: str, *, ttl_s: float, now: datetime) -> ClaimedRun | None:
    """Take the oldest queued run, after queueing again every run whose holder has gone silent.

    Returns:
        The run, now `running` under a lease of `ttl_s` seconds, or None where nothing is to be done.
    """
    abandon_expired(session, now=now)
    query = (
        sa.select(PhaseRunRow, IterationRow)
        .join(IterationRow, IterationRow.id == PhaseRunRow.iteration_id)
        .where(
            PhaseRunRow.state == "queued",
            IterationRow.state.in_(("requested", "running")),
            IterationRow.wish.is_(None),
        )
        .order_by(PhaseRunRow.queued_at, IterationRow.number)
        .limit(1)
        .with_for_update(of=(PhaseRunRow, IterationRow), skip_locked=True, key_share=True)
    )
    found = session.execute(query).one_or_none()
    if found is None:
        return None
    run, iteration = found
    name = lease_name(run.iteration_id, run.phase)
    lease = leases.acquire(session, name, holder=worker, ttl_s=ttl_s, now=now)
    move(run, "running", now=now)
    run.worker, run.fence, run.heartbeat_at = worker, lease.fence, now
    session.flush()
    return ClaimedRun(
        phase_run_id=run.id,
        iteration_id=iteration.id,
        iteration_number=iteration.number,
        phase=run.phase,
        attempt=run.attempt,
        worker=worker,
        fence=lease.fence,
        ttl_s=ttl_s,
        spec=iteration.spec,
    )


def abandon_expired(session: Session, *, now: datetime) -> list[PhaseRunRow]:
    """End every running run whose lease has run out, and queue its next attempt while there is one left.

    Returns:
        The runs that were ended: `abandoned`, or `failed` with code attempts_exhausted.
    """
    query = sa.select(PhaseRunRow).where(PhaseRunRow.state == "running").order_by(PhaseRunRow.queued_at)
    ended = []
    for run in session.scalars(query.with_for_update(skip_locked=True)):
        lease = session.get(LeaseRow, lease_name(run.iteration_id, run.phase), with_for_update=True)
        if lease is not None and lease.holder is not None and lease.expires_at > now:
            continue
        leases.revoke(session, lease_name(run.iteration_id, run.phase), now=now)
        if run.error_code is None:  # nobody knows better
            run.error_code = LEASE_EXPIRED
            run.error_message = f"worker {run.worker} sent no heartbeat in time"
        if _attempts_left(session, run) > 0:
            move(run, "abandoned", now=now)
            _add(session, run.iteration_id, phase=run.phase, attempt=run.attempt + 1, now=now)
        else:
            run.error_code = ATTEMPTS_EXHAUSTED
            move(run, "failed", now=now)
        ended.append(run)
    session.flush()
    return ended


def heartbeat(session: Session, claimed: ClaimedRun, *, progress: float, text: str, now: datetime) -> bool:
    """Report progress, a share between 0 and 1, and hold on to the run for another `ttl_s` seconds.

    Returns: whether the iteration is to be paused; then give the run back.

    Raises:
        LeaseLost: the run was given to somebody else, ended or cancelled; stop.
        MetricNotFinite: progress is NaN or infinite.
    """
    if not math.isfinite(progress):
        raise MetricNotFinite(phase_run_id=claimed.phase_run_id, name="progress", value=progress)
    run = require_held(session, claimed.phase_run_id, fence=claimed.fence)
    name = lease_name(run.iteration_id, run.phase)
    leases.renew(session, name, fence=claimed.fence, ttl_s=claimed.ttl_s, now=now)
    run.progress = min(max(progress, 0.0), 1.0)
    run.progress_text = text
    run.heartbeat_at = now
    session.flush()
    wish = sa.select(IterationRow.wish).where(IterationRow.id == run.iteration_id)
    return session.scalars(wish).one() == PAUSE


def finish(session: Session, claimed: ClaimedRun, *, outcome: Mapping[str, Any], now: datetime) -> None:
    """Record what the phase achieved and end the run.

    Raises:
        LeaseLost: somebody else has the run; the outcome is not recorded.
        NotJson: the outcome holds NaN or something else that JSON cannot.
    """
    run = _let_go(session, claimed, now=now)
    run.outcome = as_json(outcome, what=f"the outcome of phase run {run.id}")
    run.progress = 1.0
    move(run, "finished", now=now)
    session.flush()


def fail(
    session: Session, claimed: ClaimedRun, *, error_code: str, message: str, retry: bool, now: datetime
) -> PhaseRunRow | None:
    """Record why the phase failed and end the run.

    Returns:
        The next attempt, queued, when `retry` is true and one is left; otherwise None.

    Raises:
        LeaseLost: somebody else has the run; the failure is not recorded.
    """
    run = _let_go(session, claimed, now=now)
    run.error_code, run.error_message = error_code, message
    move(run, "failed", now=now)
    session.flush()
    if not retry or _attempts_left(session, run) <= 0:
        return None
    return _add(session, run.iteration_id, phase=run.phase, attempt=run.attempt + 1, now=now)


def release(
    session: Session,
    claimed: ClaimedRun,
    *,
    now: datetime,
    why: str = "the worker was asked to stop",
    code: str = RELEASED,
) -> PhaseRunRow | None:
    """Give a run back unfinished, as a worker does that is asked to stop or to pause, or whose disk is full.

    Args:
        code: one of UNCOUNTED; such an attempt does not count against MAX_ATTEMPTS.

    Returns:
        The next attempt, queued; after DEVICE_BUDGET_SPENT none is. The last of MOST_DISK_FULL fails.

    Raises:
        LeaseLost: somebody else has the run already.
    """
    run = _let_go(session, claimed, now=now)
    run.error_code, run.error_message = code, f"given back by worker {run.worker}: {why}"
    session.flush()
    if code == DISK_FULL and attempts.ended_by(session, run, code=code) >= MOST_DISK_FULL:
        run.error_message = attempts.NO_END_OF_FULL_DISKS.format(most=MOST_DISK_FULL) + run.error_message
        move(run, "failed", now=now)
        return None
    move(run, "abandoned", now=now)
    if code == DEVICE_BUDGET_SPENT:
        return None
    return _add(session, run.iteration_id, phase=run.phase, attempt=run.attempt + 1, now=now)


def cancel(session: Session, iteration_id: str, *, now: datetime) -> list[PhaseRunRow]:
    """End every queued and running run of an iteration; whoever runs one loses its lease.

    Returns: the runs that were ended.
    """
    newest = (latest(session, iteration_id, phase=phase, lock=True) for phase in PHASES)
    ended = [run for run in newest if run is not None and run.state in OPEN]
    for run in ended:
        leases.revoke(session, lease_name(run.iteration_id, run.phase), now=now)
        run.error_code, run.error_message = CANCELLED, "the iteration was cancelled"
        move(run, "abandoned", now=now)
    session.flush()
    return ended


def require_held(session: Session, phase_run_id: str, *, fence: int) -> PhaseRunRow:
    """The run, if this fence may still write for it; locked until the transaction ends.

    Raises:
        LeaseLost: somebody else has it, or it has ended.
        RowMissing: there is no such run.
    """
    run = session.get(PhaseRunRow, phase_run_id, with_for_update=True, populate_existing=True)
    if run is None:
        raise RowMissing(kind="phase run", row_id=phase_run_id)
    name = lease_name(run.iteration_id, run.phase)
    leases.require(session, name, fence)
    if run.state != "running" or run.fence != fence:
        raise LeaseLost(name=name, fence=fence, current=run.fence or 0, holder=None)
    return run


def get(session: Session, phase_run_id: str) -> PhaseRunRow:
    """One run.

    Raises:
        RowMissing: there is no such run.
    """
    run = session.get(PhaseRunRow, phase_run_id)
    if run is None:
        raise RowMissing(kind="phase run", row_id=phase_run_id)
    return run


def latest(session: Session, iteration_id: str, *, phase: str, lock: bool = False) -> PhaseRunRow | None:
    """The last attempt at a phase; it alone says how the phase stands.

    With `lock`, as it is now and held until the transaction ends: nobody but the caller adds another.
    """
    query = sa.select(PhaseRunRow).where(PhaseRunRow.iteration_id == iteration_id, PhaseRunRow.phase == phase)
    query = query.order_by(PhaseRunRow.attempt.desc()).limit(1)
    if not lock:
        return session.scalars(query).one_or_none()
    locked = query.with_for_update().execution_options(populate_existing=True)
    while True:  # whoever held the lock before us may have ended that attempt and added the next
        run = session.scalars(locked).one_or_none()
        if session.scalars(query.with_only_columns(PhaseRunRow.id)).one_or_none() == (run and run.id):
            return run


def of_iteration(session: Session, iteration_id: str) -> list[PhaseRunRow]:
    """Every attempt at every phase, in the order of PHASES, first attempts first."""
    query = sa.select(PhaseRunRow).where(PhaseRunRow.iteration_id == iteration_id)
    runs = session.scalars(query.order_by(PhaseRunRow.attempt))
    return sorted(runs, key=lambda run: PHASES.index(run.phase))


def _add(session: Session, iteration_id: str, *, phase: str, attempt: int, now: datetime) -> PhaseRunRow:
    run = PhaseRunRow(iteration_id=iteration_id, phase=phase, attempt=attempt, state="queued", queued_at=now)
    run.progress, run.progress_text = 0.0, ""
    session.add(run)
    session.flush()
    events.note_state(run, at=now)
    return run


def _let_go(session: Session, claimed: ClaimedRun, *, now: datetime) -> PhaseRunRow:
    run = require_held(session, claimed.phase_run_id, fence=claimed.fence)
    leases.release(session, lease_name(run.iteration_id, run.phase), fence=claimed.fence, now=now)
    return run


def _attempts_left(session: Session, run: PhaseRunRow) -> int:
    """How many more attempts the phase has; the given run counts as one that ended badly."""
    return MAX_ATTEMPTS - attempts.counted(session, run, uncounted=UNCOUNTED)
