"""How an iteration moves on, and what is told of it.

`advance` is all the state machine's glue: storage knows which moves are legal, the worker does the
phases, and this module says what comes next. It runs again and again, and repeating it changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.alarms import alarms_of_iteration
from daemon.errors import PageNotFound
from daemon.ledger import ledger_of
from daemon.scheduling.budgets import UNLIMITED, Budgets
from daemon.scheduling.device_budget import just_given_back, tell_spent
from daemon.scheduling.robot_budget import tell_episodes_spent
from daemon.scheduling.waiting import next_phase, phase_waits
from daemon.statistics import wilson_interval
from daemon.success import success_of
from storage import iterations, lineages, metrics, phase_runs
from storage.db import serialise
from storage.states import move
from storage.tables import IterationRow, PhaseRunRow

Record = dict[str, Any]


def advance(session: Session, *, now: datetime, budgets: Budgets = UNLIMITED) -> str | None:
    """Take one iteration whose turn it is one step on; those after it wait, also while it is paused.

    The next iteration must act with the policy that this one makes, so of a lineage there is never more than
    one running; other lineages do not wait for it. Collecting is not begun while no robot may move, and
    nothing while what `budgets` allow it is used up.

    Returns:
        What was done, as a phrase for the log, or None when there was nothing to do in any lineage.
    """
    serialise(session, iterations.TURNS)
    phase_runs.abandon_expired(session, now=now)
    for row in iterations.turns(session):
        done = _step(session, row, now=now, budgets=budgets)
        if done is not None:
            return done
    return None


def _step(session: Session, row: IterationRow, *, now: datetime, budgets: Budgets) -> str | None:
    """One step of the iteration whose turn it is in its lineage."""
    if row.state == "paused":
        return None
    if row.state == "requested":
        move(row, "running", now=now)
    left = next_phase(session, row)
    if left is not None:
        phase, run = left
        return _advance_phase(session, row, phase=phase, run=run, now=now, budgets=budgets)
    move(row, "finished", now=now)
    return f"iteration finished iteration={row.number}"


def _advance_phase(
    session: Session,
    row: IterationRow,
    *,
    phase: str,
    run: PhaseRunRow | None,
    now: datetime,
    budgets: Budgets,
) -> str | None:
    """What follows from the last attempt at the phase that is not done yet."""
    if run is not None and run.state == "running":
        return None
    if run is not None and run.state == "failed" and not run.forgiven:
        return _fail(session, row, run, now=now)
    if row.wish == phase_runs.PAUSE:
        move(row, "paused", now=now)
        return f"iteration paused iteration={row.number} phase={phase}"
    if run is not None and run.state == "queued":
        return None
    return _queue(session, row, phase=phase, run=run, now=now, budgets=budgets)


def _queue(
    session: Session,
    row: IterationRow,
    *,
    phase: str,
    run: PhaseRunRow | None,
    now: datetime,
    budgets: Budgets,
) -> str | None:
    """Ask for a phase, unless it has to wait; `run` is the last attempt at it, which is over."""
    waits = phase_waits(session, row.id, phase=phase, budgets=budgets, now=now)
    if waits is not None:
        if phase == "collect":
            return tell_episodes_spent(session, row.id, found=waits, now=now)
        return tell_spent(session, row, phase=phase, found=waits, now=now)
    if just_given_back(run, now=now):
        return None
    phase_runs.queue(session, row, phase=phase, now=now)
    return f"phase queued iteration={row.number} phase={phase}"


def _fail(session: Session, row: IterationRow, run: PhaseRunRow, *, now: datetime) -> str:
    code = run.error_code or "unknown"
    message = f"{run.phase}, attempt {run.attempt}: {run.error_message}"
    iterations.fail(session, row, error_code=code, message=message, now=now)
    return f"iteration failed iteration={row.number} phase={run.phase} code={code}"


def find_iteration(session: Session, number: int) -> IterationRow:
    """Find an iteration by its number.

    Raises:
        PageNotFound: there is none with this number.
    """
    row = session.scalars(sa.select(IterationRow).where(IterationRow.number == number)).one_or_none()
    if row is None:
        raise PageNotFound(what="iteration", key=number)
    return row


def require_lineage(session: Session, name: str) -> None:
    """Look whether there is such a lineage; main always is.

    Raises:
        PageNotFound: no iteration is of it.
    """
    if name not in {lineages.MAIN, *lineages.names(session)}:
        raise PageNotFound(what="lineage", key=name)


def iteration_numbers(session: Session, iteration_ids: Collection[str]) -> dict[str, int]:
    """Give the number of each iteration, by its id."""
    query = sa.select(IterationRow.id, IterationRow.number).where(IterationRow.id.in_(iteration_ids))
    return {row.id: row.number for row in session.execute(query)}


def iteration_summary(row: IterationRow) -> Record:
    """What a list of iterations says of one."""
    return {
        "number": row.number,
        "lineage": row.lineage,
        "id": row.id,
        "state": row.state,
        "wish": row.wish,
        "spec": row.spec,
        "spec_digest": row.spec_digest,
        "requested_at": row.requested_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "error": _error(row),
    }


def iteration_record(session: Session, row: IterationRow) -> Record:
    """Everything that is known of an iteration: how it stands, which alarms it raised, what it cost."""
    return completed(session, row, iteration_standing(session, row))


def completed(session: Session, row: IterationRow, standing: Record) -> Record:
    """The record of an iteration whose standing is known; the rest costs, so no writer waits for it."""
    return {
        **standing,
        "alarms": alarms_of_iteration(session, row),
        "ledger": ledger_of(session, [(row.id, row.number)])[0],
    }


def iteration_standing(session: Session, row: IterationRow) -> Record:
    """How an iteration stands and what its phases measured: what can be asked for again and again.

    `success` counts real episodes with a label; `imagined_success` and `held_out_error` are what the phases
    measured. Of a phase that was tried several times, the finished attempt counts.
    """
    runs = phase_runs.of_iteration(session, row.id)
    outcomes = [run.outcome for run in runs if run.state == "finished" and run.outcome is not None]
    success = success_by_task(session, row.id)
    return {
        **iteration_summary(row),
        "phases": [_phase_record(session, run) for run in runs],
        "success": success,
        "overall": overall_success(success),
        "world_model": {name: _last(outcomes, name) for name in ("held_out_error", "gate", "trust")},
        "imagined_success": _last(outcomes, "imagined_success") or {},
        "trial": _last(outcomes, "trial"),
        "trial_not_carried": _last(outcomes, "trial_not_carried"),
        "full_length": _last(outcomes, "full_length") or {},
        "judge_audit": _last(outcomes, "judge_audit"),
        "tasks_left_out": _last(outcomes, "tasks_left_out") or {},
        "checkpoints": {
            "read": _merged(list(reversed(outcomes)), "read"),  # the first to read a kind counts
            "made": _merged(outcomes, "made"),
            "rejected": _merged(outcomes, "rejected"),
        },
    }


def success_by_task(session: Session, iteration_id: str) -> dict[str, Record]:
    """Real success of each task that has a valid, labelled episode in this iteration.

    Where a candidate was tried against the champion, it is that of the policy that goes on; until that is
    decided, the champion's.
    """
    counts = success_of(session, [iteration_id])[iteration_id]
    return {task: success_rate(successes, judged) for task, (successes, judged) in counts.items()}


def overall_success(by_task: Mapping[str, Record]) -> Record:
    """All tasks together: episodes are added up, rates are not averaged."""
    return success_rate(
        sum(rate["successes"] for rate in by_task.values()),
        sum(rate["episodes"] for rate in by_task.values()),
    )


def success_rate(successes: int, judged: int) -> Record:
    """k of n with its Wilson 95 % interval."""
    interval = wilson_interval(successes, judged)
    return {
        "successes": successes,
        "episodes": judged,
        "wilson_low": interval.low,
        "wilson_high": interval.high,
    }


def film_strips(session: Session, row: IterationRow) -> dict[str, dict[str, str]]:
    """Blob names of the real and the imagined strip of each task, as the phases left them."""
    runs = phase_runs.of_iteration(session, row.id)
    outcomes = [run.outcome for run in runs if run.state == "finished" and run.outcome is not None]
    return _merged(outcomes, "film_strips")


def _phase_record(session: Session, run: PhaseRunRow) -> Record:
    return {
        "phase": run.phase,
        "attempt": run.attempt,
        "state": run.state,
        "forgiven": run.forgiven,
        "progress": run.progress,
        "text": run.progress_text,
        "worker": run.worker,
        "device": run.device,
        "queued_at": run.queued_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "outcome": run.outcome,
        "metrics": metrics.read(session, run.id),
        "error": _error(run),
    }


def _error(row: IterationRow | PhaseRunRow) -> Record | None:
    if row.error_code is None:
        return None
    return {"code": row.error_code, "message": row.error_message or ""}


def _last(outcomes: Sequence[Mapping[str, Any]], key: str) -> Any:
    return next((outcome[key] for outcome in reversed(outcomes) if key in outcome), None)


def _merged(outcomes: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    """The mappings of all phases under one key; of equal names the later phase's counts."""
    merged: dict[str, Any] = {}
    for outcome in outcomes:
        merged.update(outcome.get(key) or {})
    return merged
