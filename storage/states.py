"""The state machines of iterations and phase runs, as data, and the one function that moves a row.

Nothing here decides when to move; that is the business of `iterations`, `phase_runs` and the daemon.
"""

from collections.abc import Mapping
from datetime import datetime

from storage.errors import IllegalMove
from storage.tables import IterationRow, PhaseRunRow

ITERATION_MOVES: Mapping[str, tuple[str, ...]] = {
    "requested": ("running", "failed", "cancelled"),
    "running": ("finished", "failed", "cancelled"),
    "finished": (),
    "failed": (),
    "cancelled": (),
}
PHASE_RUN_MOVES: Mapping[str, tuple[str, ...]] = {
    "queued": ("running", "abandoned"),
    "running": ("finished", "failed", "abandoned"),
    "finished": (),
    "failed": (),
    "abandoned": (),
}


def move(row: IterationRow | PhaseRunRow, new: str, *, now: datetime) -> None:
    """Put a row into a new state and note when: `started_at` on running, `finished_at` on a final state.

    Raises:
        IllegalMove: the state machine has no such transition.
    """
    moves = ITERATION_MOVES if isinstance(row, IterationRow) else PHASE_RUN_MOVES
    allowed = moves[row.state]
    if new not in allowed:
        raise IllegalMove(what=_describe(row), old=row.state, new=new, allowed=allowed)
    row.state = new
    if new == "running":
        row.started_at = now
    if is_final(row):
        row.finished_at = now


def is_final(row: IterationRow | PhaseRunRow) -> bool:
    """Whether the row will never move again."""
    moves = ITERATION_MOVES if isinstance(row, IterationRow) else PHASE_RUN_MOVES
    return not moves[row.state]


def _describe(row: IterationRow | PhaseRunRow) -> str:
    if isinstance(row, IterationRow):
        return f"iteration {row.number} ({row.id})"
    return f"phase run {row.id} ({row.phase}, attempt {row.attempt})"
