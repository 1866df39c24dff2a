"""Jobs at AutoEval: planned before anything is sent, moved along, found again after a crash, closed once.

The row is committed before the HTTP call that it stands for, so that a job which AutoEval may have is never
forgotten. Whoever calls `move` or `record_join` has checked the fence of its phase run in the same
transaction (`phase_runs.require_held`). How AutoEval is talked to, and its recordings joined, is not here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.canonical import as_json
from storage.db import serialise
from storage.errors import AutoEvalJobConflict, RowMissing
from storage.states import AUTOEVAL_JOB_MOVES
from storage.states import move as move_state
from storage.tables import AutoEvalJobRow

OPEN = tuple(state for state, moves in AUTOEVAL_JOB_MOVES.items() if moves)
GATEWAY_OPEN = ("planned", "submitting", "queued", "running")  # while AutoEval may still ask us for actions
STEADY = (
    *("iteration_id", "station_id", "task_id", "checkpoint_id"),
    *("description", "robot", "num_episodes", "max_steps"),
)  # what one id stands for


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """Everything about a job that is decided before it is submitted.

    `description` is the token it is found by, `capability` the secret part of the gateway's path, and
    `gateway_folder` the name of the folder in which the gateway records it.
    """

    id: str
    iteration_id: str
    phase_run_id: str
    station_id: str
    task_id: str
    checkpoint_id: str | None
    description: str
    robot: str
    num_episodes: int
    max_steps: int
    capability: str
    gateway_folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """Why a job did not end well: the code of an error and its sentence."""

    code: str
    message: str


def plan(session: Session, job: JobPlan, *, now: datetime) -> AutoEvalJobRow:
    """Write a job down as `planned`; the same job planned again is found as it stands now.

    Raises:
        AutoEvalJobConflict: the id stands for another job.
    """
    serialise(session, f"autoeval_job:{job.id}")
    before = session.get(AutoEvalJobRow, job.id)
    if before is not None:
        for field in STEADY:
            stored, found = getattr(before, field), getattr(job, field)
            if stored != found:
                raise AutoEvalJobConflict(job_id=job.id, field=field, stored=stored, found=found)
        return before
    row = AutoEvalJobRow(**asdict(job), state="planned", created_at=now)
    session.add(row)
    session.flush()
    return row


def move(
    session: Session,
    job_id: str,
    new: str,
    *,
    now: datetime,
    remote_job_id: str | None = None,
    failure: JobFailure | None = None,
) -> AutoEvalJobRow:
    """Put a job into its next state, with what became known on the way.

    `submitted_at` is noted on queued, `started_at` on running, `finished_at` on a final state. The capability
    is deleted as soon as AutoEval has no reason to ask for actions any more.

    Raises:
        IllegalMove: the state machine has no such transition.
        RowMissing: there is no such job.
    """
    row = get(session, job_id, lock=True)
    move_state(row, new, now=now)
    if new == "queued":
        row.submitted_at = now
    if new not in GATEWAY_OPEN:
        row.capability = None
    if remote_job_id is not None:
        row.remote_job_id = remote_job_id
    if failure is not None:
        row.error_code, row.error_message = failure.code, failure.message
    session.flush()
    return row


def record_join(
    session: Session,
    job_id: str,
    *,
    state: str,
    success_rate: float | None,
    checks: Mapping[str, Any],
    now: datetime,
) -> AutoEvalJobRow:
    """End a draining job as `joined` or `partial`, with AutoEval's own success rate and what joining showed.

    Raises:
        IllegalMove: it is not draining, or the state is not one that joining ends in.
        NotJson: the checks hold something that JSON cannot.
        RowMissing: there is no such job.
    """
    row = move(session, job_id, state, now=now)
    row.success_rate = success_rate
    row.checks = as_json(checks, what=f"the checks of AutoEval job {job_id}")
    session.flush()
    return row


def adopt(session: Session, job_id: str, *, phase_run_id: str) -> AutoEvalJobRow:
    """Let a later attempt of the same phase go on with a job that an earlier one submitted.

    Raises:
        RowMissing: there is no such job.
    """
    row = get(session, job_id, lock=True)
    row.phase_run_id = phase_run_id
    session.flush()
    return row


def get(session: Session, job_id: str, *, lock: bool = False) -> AutoEvalJobRow:
    """One job; with `lock`, as it is now and held until the transaction ends.

    Raises:
        RowMissing: there is no such job.
    """
    row = session.get(AutoEvalJobRow, job_id, with_for_update=lock or None, populate_existing=lock)
    if row is None:
        raise RowMissing(kind="AutoEval job", row_id=job_id)
    return row


def of_iteration(session: Session, iteration_id: str) -> list[AutoEvalJobRow]:
    """Every job of an iteration, in the order in which they were planned."""
    query = sa.select(AutoEvalJobRow).where(AutoEvalJobRow.iteration_id == iteration_id)
    return list(session.scalars(query.order_by(AutoEvalJobRow.created_at, AutoEvalJobRow.id)))


def open_jobs(session: Session, *, iteration_id: str | None = None) -> list[AutoEvalJobRow]:
    """Every job that is not over, of one iteration or of all, oldest first."""
    query = sa.select(AutoEvalJobRow).where(AutoEvalJobRow.state.in_(OPEN))
    if iteration_id is not None:
        query = query.where(AutoEvalJobRow.iteration_id == iteration_id)
    return list(session.scalars(query.order_by(AutoEvalJobRow.created_at, AutoEvalJobRow.id)))
