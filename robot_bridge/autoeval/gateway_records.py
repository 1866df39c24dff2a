"""Everything that was recorded for one job, on disk, across restarts.

    <job>/begun.json        how many attempts were begun, and the policy the job is pinned to
    <job>/running/<index>/  an attempt that grows, see `recorder`
    <job>/ended/<index>/    whole attempts, see `attempt`

When an attempt begins or ends is decided in `gateway_session`.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from robot_bridge.autoeval.attempt import Attempt, AttemptCorrupt, EndedBy
from robot_bridge.autoeval.recorder import Recording, RecordingFailed, RunningHeader, on_disk, read_running
from robot_bridge.episode import PolicyRef
from robot_bridge.station.durable import replace_file, sync_folder

log = logging.getLogger(__name__)

BEGUN_FILE: Final = "begun.json"


class Begun(BaseModel):
    """How far a job is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = 0
    policy: PolicyRef | None = None


class JobRecords:
    """Everything recorded for one job, on disk; survives restarts."""

    def __init__(self, folder: Path, job_id: str) -> None:
        self.job_id = job_id
        self.folder = folder
        self._running, self._ended = folder / "running", folder / "ended"
        self._begun = folder / BEGUN_FILE

    @property
    def begun(self) -> Begun:
        """How many attempts were begun, none yet where nothing is on disk.

        Raises:
            RecordingFailed: the file is there and does not read back.
        """
        try:
            with on_disk(self.job_id, self.folder):
                return Begun.model_validate_json(self._begun.read_bytes() if self._begun.exists() else b"{}")
        except ValidationError as cause:
            reason = f"{BEGUN_FILE} does not read back"
            raise RecordingFailed(job_id=self.job_id, path=self._begun, reason=reason) from cause

    def begin(self) -> int:
        """Count one more attempt, for good, and say its index.

        Raises:
            RecordingFailed: the disk does not take it.
        """
        begun = self.begun
        self._note(begun.model_copy(update={"attempts": begun.attempts + 1}))
        return begun.attempts

    def pin(self, policy: PolicyRef) -> PolicyRef:
        """The policy this job is pinned to: the first that was ever named here."""
        begun = self.begun
        if begun.policy is None:
            self._note(begun.model_copy(update={"policy": policy}))
        return begun.policy or policy

    def record(self, header: RunningHeader) -> Recording:
        """Begin to record an attempt."""
        return Recording(self._running / _name(header.index), header)

    def end(self, recording: Recording, ended_by: EndedBy) -> None:
        """Turn a recording into an ended attempt; one without a step leaves nothing.

        Raises:
            RecordingFailed: the disk does not take it; its files stay, and are read at the next start.
        """
        recording.close()
        self._settle(recording.folder, ended_by)

    def recover(self) -> None:
        """End what a program that died left running."""
        for folder in _numbered(self._running):
            try:
                self._settle(folder, "recovered")
            except (AttemptCorrupt, RecordingFailed) as error:
                log.error("attempt not recovered job=%s attempt=%s error=%s", self.job_id, folder.name, error)

    def count(self) -> int:
        """How many ended attempts are kept."""
        return len(_numbered(self._ended))

    def attempts(self, after: int = -1) -> list[Attempt]:
        """Ended attempts of a higher index, in order; one that does not read back is logged and left out."""
        return [
            attempt
            for folder in _numbered(self._ended)
            if int(folder.name) > after and (attempt := self._loaded(folder)) is not None
        ]

    def _loaded(self, folder: Path) -> Attempt | None:
        try:
            return Attempt.load(folder)
        except AttemptCorrupt as error:
            log.error("attempt unreadable job=%s attempt=%s error=%s", self.job_id, folder.name, error)
            return None

    def _note(self, begun: Begun) -> None:
        with on_disk(self.job_id, self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._begun, begun.model_dump_json().encode())

    def _settle(self, folder: Path, ended_by: EndedBy) -> None:
        attempt = read_running(folder, ended_by)
        with on_disk(self.job_id, self._ended):
            self._ended.mkdir(exist_ok=True)
            if attempt is not None and not (self._ended / folder.name).exists():
                attempt.save(self._ended / folder.name)
            shutil.rmtree(folder)
            sync_folder(folder.parent)
        steps = attempt.steps if attempt is not None else 0
        fallbacks = int(attempt.fallback.sum()) if attempt is not None else 0
        log.info(
            "attempt ended job=%s attempt=%s by=%s steps=%d fallbacks=%d",
            self.job_id, folder.name, ended_by, steps, fallbacks,
        )  # fmt: skip


def _numbered(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else iter(())
    return sorted(path for path in found if path.name.isdigit())


def _name(index: int) -> str:
    return f"{index:06d}"
