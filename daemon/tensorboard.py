"""The curves of every attempt at a phase as event files, one folder each, for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from daemon.curves import AXES, TIME, curves_path, moments
from daemon.settings import Settings
from daemon.stores import open_database
from storage.interchange.tensorboard import PREFIX, Scalar, write_events
from storage.tables import IterationRow, PhaseRunRow


def export_curves(settings: Settings, folder: Path, *, advance: Callable[[int, int | None], None]) -> int:
    """Write what every phase run has recorded; how many runs had curves.

    It may be repeated while a daemon works: each file is made anew, and shows what there is by then.

    Raises:
        DatabaseOutdated, DatabaseNewer: the database is not this release's.
    """
    database = open_database(settings)
    try:
        database.require_current()
        query = sa.select(PhaseRunRow, IterationRow.number).join(
            IterationRow, IterationRow.id == PhaseRunRow.iteration_id
        )
        with database.read() as session:
            runs = session.execute(query.order_by(IterationRow.number, PhaseRunRow.queued_at)).all()
    finally:
        database.dispose()
    written = 0
    for done, (run, number) in enumerate(runs, start=1):
        scalars = list(scalars_of(curves_path(settings.data_dir, run.id)))
        if scalars:
            place = folder / f"iteration-{number:04d}" / run.phase / f"attempt-{run.attempt}"
            write_whole(place, f"{PREFIX}.{int(run.queued_at.timestamp())}.{run.id}", scalars)
            written += 1
        advance(done, len(runs))
    return written


def scalars_of(path: Path) -> Iterator[Scalar]:
    """Every number of a curves file, in the order in which it was recorded."""
    for index, moment in enumerate(moments(path)):
        step = int(next((moment[axis] for axis in AXES if axis in moment), index))
        at = datetime.fromisoformat(moment[TIME]).timestamp()
        for name, value in moment.items():
            if name not in (*AXES, TIME):
                yield Scalar(tag=name, step=step, value=float(value), at=at)


def write_whole(folder: Path, name: str, scalars: list[Scalar]) -> None:
    """An event file, whole or not at all: TensorBoard may be looking."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{os.getpid()}.partial"
    try:
        write_events(partial, scalars, begun=scalars[0].at)
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)
