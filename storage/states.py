"""The state machines of iterations, phase runs and AutoEval jobs, as data, and what moves a row and tells it.

Nothing here decides when to move; that is the business of `iterations`, `phase_runs`, `autoeval_jobs` and
the daemon.
"""

from collections.abc import Mapping
from datetime import datetime

from storage import events
from storage.errors import IllegalMove
from storage.tables import AutoEvalJobRow, IterationRow, PhaseRunRow

StateRow = IterationRow | PhaseRunRow | AutoEvalJobRow

ITERATION_MOVES: Mapping[str, tuple[str, ...]] = {
    "requested": ("running", "paused", "failed", "cancelled"),
    "running": ("paused", "finished", "failed", "cancelled"),
    "paused": ("requested", "running", "cancelled"),
    "finished": (),
    "failed": ("requested",),  # by a retry, and by nothing else
    "cancelled": (),
}
PHASE_RUN_MOVES: Mapping[str, tuple[str, ...]] = {
    "queued": ("running", "abandoned", "skipped"),
    "running": ("finished", "failed", "abandoned", "skipped"),
    "finished": (),
    "failed": (),
    "abandoned": (),
    "skipped": (),
}
# planned: nothing was sent. submitting: AutoEval may or may not have it; it is looked for before it is sent
# again. running: the gateway saw its first reset. draining: AutoEval is done, its recordings are on the way.
AUTOEVAL_JOB_MOVES: Mapping[str, tuple[str, ...]] = {
    "planned": ("submitting", "failed", "cancelled"),
    "submitting": ("queued", "failed", "cancelled", "lost"),
    "queued": ("running", "draining", "failed", "cancelled", "lost"),
    "running": ("draining", "failed", "cancelled", "lost"),
    "draining": ("joined", "partial", "failed", "cancelled", "lost"),
    "joined": (),
    "partial": (),
    "failed": (),
    "cancelled": (),
    "lost": (),
}
OVER = ("finished", "failed", "cancelled")  # an iteration that will not go on by itself


def move(row: StateRow, new: str, *, now: datetime) -> None:
    """Put a row into a new state and note when: `started_at` on running, `finished_at` on a final state.

    A resumed iteration keeps its start, one that is tried again has neither start nor end, and a wish is gone
    once its iteration stops running.

    Raises:
        IllegalMove: the state machine has no such transition.
    """
    allowed = _moves(row)[row.state]
    if new not in allowed:
        raise IllegalMove(what=_describe(row), old=row.state, new=new, allowed=allowed)
    if isinstance(row, IterationRow):
        row.wish = None
        if row.state == "failed":
            row.started_at = row.finished_at = None
    row.state = new
    if new == "running" and row.started_at is None:
        row.started_at = now
    if is_final(row):
        row.finished_at = now
    events.note_state(row, at=now)


def is_final(row: StateRow) -> bool:
    """Whether the row will not move again unless somebody asks for it."""
    if isinstance(row, IterationRow):
        return row.state in OVER
    return not _moves(row)[row.state]


def _moves(row: StateRow) -> Mapping[str, tuple[str, ...]]:
    if isinstance(row, IterationRow):
        return ITERATION_MOVES
    return PHASE_RUN_MOVES if isinstance(row, PhaseRunRow) else AUTOEVAL_JOB_MOVES


def _describe(row: StateRow) -> str:
    if isinstance(row, IterationRow):
        return f"iteration {row.number} ({row.id})"
    if isinstance(row, AutoEvalJobRow):
        return f"AutoEval job {row.id} ({row.task_id})"
    return f"phase run {row.id} ({row.phase}, attempt {row.attempt})"
