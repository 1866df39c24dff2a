"""What a soak came to: the motions that the driver wrote down, held against what was recorded and stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from robot_bridge.conventions import STEP_XYZ_MAX
from robot_bridge.drivers.tasks import TASKS
from storage.db import Database
from storage.tables import EpisodeBlobRow, EpisodeRow

TOLERANCE_M = 1e-6  # float32 rounding of targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Counts of what must not happen; all are 0 when every promise was kept."""

    lost: int
    duplicated: int
    executed_twice: int
    limit_violations: int

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.executed_twice or self.limit_violations)


def judge(folder: Path, database: Database, *, acknowledged: set[str], finished: set[str]) -> Verdict:
    """Hold motions and rows against each other.

    Args:
        acknowledged: episodes that the station was told to forget.
        finished: episodes that the station's journal says it kept.
    """
    with database.read() as session:
        stored = set(session.scalars(sa.select(EpisodeRow.id)))
        recordings = list(
            session.scalars(sa.select(EpisodeBlobRow.sha256).where(EpisodeBlobRow.name == "steps.npz"))
        )
    runs = [positions for path in sorted(folder.glob("motions-*.jsonl")) for positions in runs_of(path)]
    return Verdict(
        lost=len((acknowledged | finished) - stored),
        duplicated=len(recordings) - len(set(recordings)),
        executed_twice=sum(repeats(run) for run in runs),
        limit_violations=sum(violations(run) for run in runs),
    )


def runs_of(path: Path) -> Iterator[NDArray[np.float64]]:
    """The commanded positions [n, 3] between two resets, from one life of the station."""
    lines = path.read_text().splitlines()
    motions = [json.loads(line) for line in lines if line.endswith("}")]  # the last one may be torn
    for _, run in groupby(motions, key=lambda motion: motion["reset"]):
        yield np.array([motion["position"] for motion in run])


def repeats(run: NDArray[np.float64]) -> int:
    """Moves that equal the one before: all that the soak sends are different, so this one was done twice."""
    moves = np.diff(run, axis=0)
    return sum(
        bool(np.abs(second).max() > TOLERANCE_M and np.abs(second - first).max() < TOLERANCE_M / 1e3)
        for first, second in pairwise(moves)
    )


def violations(run: NDArray[np.float64]) -> int:
    """Targets outside every task's box, and moves longer than a step may be."""
    boxes = [(np.array(task.box_low), np.array(task.box_high)) for task in TASKS.values()]
    outside = [
        not any(((low - TOLERANCE_M <= at) & (at <= high + TOLERANCE_M)).all() for low, high in boxes)
        for at in run
    ]
    too_far = np.abs(np.diff(run, axis=0)).max(axis=1, initial=0.0) > STEP_XYZ_MAX + TOLERANCE_M
    return sum(outside) + int(too_far.sum())
