"""Runs in AutoEval's layout, wherever they lie: find the run of one job, and read its trajectories.

`eval_data/<eval_id>/{metadata.json, traj_<i>.pkl}`. A run is found by the description of its job, which
AutoEval writes into metadata.json as `eval_name`; the eval_id itself cannot be foretold. Pickles are read in
a sandbox, one at a time. Which places hold runs is in `dataset`.
"""

from __future__ import annotations

import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from robot_bridge.autoeval.errors import DatasetMalformed
from robot_bridge.autoeval.trajectory import Trajectory
from robot_bridge.autoeval.unpickle import SandboxLimits, decode
from robot_bridge.autoeval.unpickle_child import MAX_PICKLE_BYTES

log = logging.getLogger(__name__)

FOLDER: Final = "eval_data"
METADATA: Final = "metadata.json"
METADATA_MAX_BYTES: Final = 64 * 1024
RUN_NAME: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
TRAJECTORY_NAME: Final = re.compile(r"traj_(0|[1-9]\d{0,3})\.pkl")
RUNS_MAX: Final = 50_000
TRAJECTORIES_MAX: Final = 200  # of one run; a job has at most 50
TEXT_MAX: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRef:
    """One run: its folder in the dataset, the description of its job, when it began by its own word."""

    eval_id: str
    description: str
    time: str


class Dataset(ABC):
    """What both places have in common."""

    def __init__(self, *, limits: SandboxLimits | None = None) -> None:
        self._limits = limits

    def find_run(self, description: str) -> RunRef | None:
        """The run of the job with this description, or None while there is none.

        A job that AutoEval executed twice, after a crash of its own, has two runs: the later one counts.

        Raises:
            DatasetUnavailable: the dataset cannot be read now.
        """
        found = [run for run in self._runs() if run.description == description]
        if len(found) > 1:
            log.warning("runs share a description description=%s count=%d", description, len(found))
        return max(found, key=lambda run: (run.time, run.eval_id), default=None)

    def runs(self) -> list[RunRef]:
        """Every run that is there, by its folder's name.

        Raises:
            DatasetUnavailable: the dataset cannot be read now.
        """
        return sorted(self._runs(), key=lambda run: run.eval_id)

    def pickle_of(self, run: RunRef, index: int) -> bytes:
        """One trajectory as it was published, unread.

        Raises:
            DatasetUnavailable: it cannot be read now.
        """
        return self._fetch(run.eval_id, f"traj_{index}.pkl")

    def indices(self, run: RunRef) -> tuple[int, ...]:
        """Numbers of the trajectories that are there by now; uploads may still come, or never.

        Raises:
            DatasetUnavailable: the dataset cannot be read now.
            DatasetMalformed: more of them than a job can have.
        """
        return tuple(sorted(self._trajectories(run)))

    def trajectories(self, run: RunRef) -> list[Trajectory]:
        """All trajectories of a run at once, by their numbers; some 20 MiB each.

        Raises: as `stream`.
        """
        return list(self.stream(run))

    def stream(self, run: RunRef) -> Iterator[Trajectory]:
        """One trajectory of a run after the other, by their numbers.

        Raises:
            DatasetUnavailable: the dataset cannot be read now.
            DatasetMalformed: a trajectory is not what AutoEval writes.
            PickleRefused, SandboxFailed: a pickle that is not a plain record.
        """
        sizes = self._trajectories(run)
        for index in sorted(sizes):
            name = f"traj_{index}.pkl"
            if sizes[index] > MAX_PICKLE_BYTES:
                found = f"{sizes[index]} bytes"
                raise DatasetMalformed(thing=name, expected=f"at most {MAX_PICKLE_BYTES} bytes", found=found)
            yield decode(self._fetch(run.eval_id, name), index=index, limits=self._limits or SandboxLimits())

    def _trajectories(self, run: RunRef) -> dict[int, int]:
        """Size in bytes of each trajectory file, by its number."""
        sizes = {}
        for name, size in self._files(run.eval_id).items():
            match = TRAJECTORY_NAME.fullmatch(name)
            if match:
                sizes[int(match[1])] = size
        if len(sizes) > TRAJECTORIES_MAX:
            expected, found = f"at most {TRAJECTORIES_MAX} trajectories", str(len(sizes))
            raise DatasetMalformed(thing=f"run {run.eval_id}", expected=expected, found=found)
        return sizes

    @abstractmethod
    def _runs(self) -> Iterator[RunRef]:
        """Every run, in any order."""

    @abstractmethod
    def _files(self, eval_id: str) -> dict[str, int]:
        """Size in bytes of each file of a run, by its name."""

    @abstractmethod
    def _fetch(self, eval_id: str, name: str) -> bytes:
        """One file of a run."""


def run_of(eval_id: str, metadata: bytes) -> RunRef:
    """A run from its metadata.json; what cannot be read is a run of nobody, since anybody may write there."""
    try:
        found = json.loads(metadata) if len(metadata) <= METADATA_MAX_BYTES else None
    except (ValueError, RecursionError):
        found = None
    facts = found if isinstance(found, dict) else {}
    name, time = facts.get("eval_name"), facts.get("time")
    return RunRef(
        eval_id=eval_id,
        description=name[:TEXT_MAX] if isinstance(name, str) else "",
        time=time[:TEXT_MAX] if isinstance(time, str) else "",
    )
