"""The curves of every attempt at a phase, handed to whoever shows them, a *sink*.

Sinks are `tensorboard` and `wandb_runs`. Curves are read from where phases have left them, so no phase waits
for a sink, or knows that there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from daemon.curves import AXES, TIME, curves_path, moments
from daemon.settings import Settings
from daemon.stores import open_database
from storage.interchange.tensorboard import Scalar
from storage.states import is_final
from storage.tables import IterationRow, PhaseRunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCurves:
    """What one phase run has recorded until now, in order; never empty. `is_over`: there comes no more."""

    run_id: str
    iteration: int
    lineage: str
    phase: str
    attempt: int
    queued_at: datetime
    is_over: bool
    scalars: Sequence[Scalar]


class Sink(Protocol):
    """Where curves go."""

    def write(self, curves: RunCurves) -> bool:
        """Take what a run has recorded; whether it was taken. The same again adds nothing."""

    def close(self) -> None:
        """See to it that what was taken is there whole."""


def export_curves(settings: Settings, sink: Sink, *, advance: Callable[[int, int | None], None]) -> int:
    """Hand over what every phase run has recorded; how many were taken. It may run while a daemon works.

    Raises:
        DatabaseOutdated, DatabaseNewer: the database is not this release's.
        SinkRefused: the sink is away, or does not know us; what it took before stays there.
    """
    database = open_database(settings)
    try:
        database.require_current()
        query = sa.select(PhaseRunRow, IterationRow).join(
            IterationRow, IterationRow.id == PhaseRunRow.iteration_id
        )
        with database.read() as session:
            rows = session.execute(query.order_by(IterationRow.number, PhaseRunRow.queued_at)).all()
    finally:
        database.dispose()
    taken = 0
    with closing(sink):
        for done, (run, iteration) in enumerate(rows, start=1):
            scalars = list(scalars_of(curves_path(settings.data_dir, run.id)))
            taken += bool(scalars) and sink.write(_curves_of(run, iteration, scalars))
            advance(done, len(rows))
    return taken


def _curves_of(run: PhaseRunRow, iteration: IterationRow, scalars: Sequence[Scalar]) -> RunCurves:
    return RunCurves(
        run_id=run.id,
        iteration=iteration.number,
        lineage=iteration.lineage,
        phase=run.phase,
        attempt=run.attempt,
        queued_at=run.queued_at,
        is_over=is_final(run),
        scalars=scalars,
    )


def scalars_of(path: Path) -> Iterator[Scalar]:
    """Every number of a curves file, in the order in which it was recorded."""
    for index, moment in enumerate(moments(path)):
        step = int(next((moment[axis] for axis in AXES if axis in moment), index))
        at = datetime.fromisoformat(moment[TIME]).timestamp()
        for name, value in moment.items():
            if name not in (*AXES, TIME):
                yield Scalar(tag=name, step=step, value=float(value), at=at)
