"""The spans of an iteration: of each attempt at a phase, and of the whole once it has ended."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from opentelemetry.trace import Span

from daemon.tracing import iteration_context, tell_iteration
from robot_bridge.spans import span
from storage import events
from storage.claims import ClaimedRun
from storage.db import Database
from storage.tables import IterationRow

LOOK_EVERY_S: Final = 5.0
ENDS: Final = ("iteration_finished", "iteration_failed", "iteration_cancelled")


def phase_span(claimed: ClaimedRun) -> AbstractContextManager[Span]:
    """Around an attempt at a phase: a part of its iteration's span."""
    facts: dict[str, str | int] = {
        "gymnastd.iteration": claimed.iteration_number,
        "gymnastd.phase": claimed.phase,
        "gymnastd.attempt": claimed.attempt,
        "gymnastd.phase_run_id": claimed.phase_run_id,
        "gymnastd.worker": claimed.worker,
    }
    return span(f"phase {claimed.phase}", facts, context=iteration_context(claimed.iteration_id))


class IterationSpans:
    """Looks for iterations that ended since it was made, or since it looked last.

    One that is tried again after it failed ends twice: then its trace has two such spans, of the same id.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.read() as session:
            self._position = events.newest_position(session)

    def look(self, now: datetime) -> None:
        """Tell of each; what a daemon did not live to tell is not made up for."""
        with self._database.read() as session:
            ended = events.after(session, self._position, kinds=ENDS)
            numbers = [event.iteration for event in ended]
            for row in session.scalars(sa.select(IterationRow).where(IterationRow.number.in_(numbers))):
                _tell(row, ended=row.finished_at or now)
        if ended:
            self._position = ended[-1].id


def _tell(row: IterationRow, *, ended: datetime) -> None:
    tell_iteration(
        row.id,
        {"gymnastd.iteration": row.number, "gymnastd.lineage": row.lineage, "gymnastd.state": row.state},
        begun=row.started_at or row.requested_at,
        ended=ended,
        error=row.error_code,
    )
