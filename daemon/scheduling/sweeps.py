"""What the daemon clears away by itself: blobs without rows, folders and states of work that is over.

Everything here may be killed at any point and run again. Rows are never removed here.
"""

import shutil
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.blobs import BlobStore
from storage.db import Database
from storage.states import is_final
from storage.sweep import sweep_blobs
from storage.tables import IterationRow, PhaseRunRow

SWEEP_EVERY_S: Final = 86_400.0
SWEEP_FIRST_AFTER_S: Final = 600.0  # a daemon that has just started has better things to do
KEPT_S: Final = 86_400.0  # a file younger than a day is left alone: its row may be on its way


def sweep_unnamed_blobs(now: datetime, *, database: Database, blobs: BlobStore) -> str | None:
    """Remove blobs that no row names.

    Raises:
        SweepRefused: most of the store would go.
    """
    with database.read() as session:
        swept = sweep_blobs(session, blobs, older_than_s=KEPT_S, now=now)
    if not swept.removed:
        return None
    return f"blobs swept seen={swept.seen} removed={len(swept.removed)}"


def sweep_work(now: datetime, *, database: Database, data_dir: Path) -> str | None:
    """Remove folders of attempts, and states to resume from, whose attempt or iteration is over."""
    with database.read() as session:
        over = [*_over_attempts(session, data_dir / "work"), *_over_states(session, data_dir / "resume")]
    removed = [path for path in over if _is_old(path, now)]
    for path in removed:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return f"work swept removed={len(removed)}" if removed else None


def sweeps(database: Database, blobs: BlobStore, data_dir: Path) -> dict[str, partial[str | None]]:
    """The sweeps by name, ready to be run with the time."""
    return {
        "sweep_blobs": partial(sweep_unnamed_blobs, database=database, blobs=blobs),
        "sweep_work": partial(sweep_work, database=database, data_dir=data_dir),
    }


def _over_attempts(session: Session, folder: Path) -> Iterator[Path]:
    """`work/<phase run>` of runs that are over, or that nobody knows."""
    for path in _children(folder):
        run = session.get(PhaseRunRow, path.name)
        if run is None or is_final(run):
            yield path


def _over_states(session: Session, folder: Path) -> Iterator[Path]:
    """`resume/<iteration>-<training>.safetensors` of iterations that are over."""
    ended = set(session.scalars(sa.select(IterationRow.id).where(IterationRow.finished_at.is_not(None))))
    for path in _children(folder):
        if path.name[:36] in ended:
            yield path


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_old(path: Path, now: datetime) -> bool:
    try:
        return path.stat().st_mtime < now.timestamp() - KEPT_S
    except FileNotFoundError:
        return False
