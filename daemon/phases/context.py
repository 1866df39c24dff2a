"""What a phase of an iteration is given to work with, and the ways in which it tells what it did.

A phase is a function `run(context) -> outcome`. It reads and writes the replay store through `database` and
`blobs`, and it says how far it is through `report`, which is also where it learns that its lease was taken.
This module holds no logic: the worker builds the context, the phases use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from daemon.settings import Settings
from daemon.spec import IterationSpec
from storage.blobs import BlobStore
from storage.db import Database

Outcome = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseContext:
    """One attempt at one phase of one iteration, held under a lease.

    Attributes:
        work_dir: scratch folder of this attempt; the worker removes it afterwards.
        fence: number of the lease; the store refuses the writes of an older one.
        report: progress in 0..1 and a phrase for people. Raises LeaseLost when another worker took over.
        record: named numbers of one moment (an update, an episode); they go to `metrics.jsonl`, the last
            value of each name into the metric summaries.
        now: the clock; phases never read another.
    """

    database: Database
    blobs: BlobStore
    settings: Settings
    spec: IterationSpec
    iteration_id: str
    iteration_number: int
    phase_run_id: str
    fence: int
    work_dir: Path
    report: Callable[[float, str], None]
    record: Callable[[Mapping[str, float]], None]
    now: Callable[[], datetime]
    shortage: Callable[[], str | None] = lambda: None  # of disk space, as a sentence
