"""The loop of a worker: claim a phase run, do the phase, record how it ended. Which phases there are is told.

Nothing here imports torch; `daemon/worker.py` puts this loop and the phases together.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError

from daemon.curves import append_moment, curves_path, finite
from daemon.errors import PhaseUnknown
from daemon.heartbeat import Heartbeat, WorkerStopped, leave_process
from daemon.phases.context import PhaseContext
from daemon.run_log import phase_log
from daemon.settings import Settings
from daemon.spec import parse_spec
from daemon.stores import open_blobs, open_database, utc_now
from storage import metrics, phase_runs
from storage.blobs import BlobStore
from storage.db import Database
from storage.errors import LeaseLost
from storage.phase_runs import ClaimedRun

log = logging.getLogger(__name__)

Phase = Callable[[PhaseContext], Mapping[str, Any]]
RETRY_PAUSES_S = (1.0, 4.0, 10.0, 30.0)  # before the second, third, ... attempt; the last one repeats


def run_worker(settings: Settings, *, name: str, stop: threading.Event, phases: Mapping[str, Phase]) -> None:
    """Work until `stop` is set.

    Raises:
        WorkerStopped: it was asked to stop in the middle of a phase; the run is given back.
        DatabaseOutdated: the daemon has not migrated the database yet.
    """
    database = open_database(settings)
    try:
        database.require_current()
        Worker(
            settings=settings,
            name=name,
            stop=stop,
            phases=phases,
            database=database,
            blobs=open_blobs(settings),
        ).work()
    finally:
        database.dispose()


@dataclass(slots=True, kw_only=True)
class Worker:
    """One worker. `now` is the wall clock, `leave` ends a process whose phase hangs."""

    settings: Settings
    name: str
    stop: threading.Event
    phases: Mapping[str, Phase]
    database: Database
    blobs: BlobStore
    now: Callable[[], datetime] = utc_now
    leave: Callable[[], None] = leave_process
    retry_pauses_s: Sequence[float] = RETRY_PAUSES_S
    last_values: dict[str, float] = field(default_factory=dict)

    def work(self) -> None:
        """Do phase runs one after the other; wait a little when there is none."""
        log.info("worker ready name=%s phases=%s", self.name, ",".join(self.phases))
        while not self.stop.is_set():
            if not self.work_once():
                self.stop.wait(self.settings.poll_s)

    def work_once(self) -> bool:
        """Claim one run and see it to its end. Says whether there was one.

        Raises:
            WorkerStopped: it was asked to stop in the middle of a phase; the run is given back.
        """
        claimed = self._claim()
        if claimed is None:
            return False
        heartbeat = Heartbeat(
            self.database,
            claimed,
            stop=self.stop,
            stall_after_s=self.settings.stall_after_s,
            now=self.now,
            leave=self.leave,
        )
        with phase_log(self.settings, claimed.phase_run_id), heartbeat:
            log.info(
                "phase started phase=%s iteration=%d attempt=%d fence=%d",
                claimed.phase, claimed.iteration_number, claimed.attempt, claimed.fence,
            )  # fmt: skip
            self._attempt(claimed, heartbeat)
        return True

    def _claim(self) -> ClaimedRun | None:
        try:
            with self.database.write() as session:
                return phase_runs.claim(session, self.name, ttl_s=self.settings.lease_ttl_s, now=self.now())
        except OperationalError as failed:
            log.warning("claim failed reason=%s", failed.orig)
            return None

    def _attempt(self, claimed: ClaimedRun, heartbeat: Heartbeat) -> None:
        """The outermost loop's body: the one place where any error of a phase is caught."""
        begun = time.monotonic()
        try:
            outcome = self._run_phase(claimed, heartbeat)
            with self.database.write() as session:
                phase_runs.finish(session, claimed, outcome=outcome, now=self.now())
                metrics.record(session, claimed.phase_run_id, self.last_values, now=self.now())
        except LeaseLost as lost:
            log.warning("phase given up phase=%s iteration=%d reason=%s", *_which(claimed), lost)
        except WorkerStopped:
            self._release(claimed)
            raise
        except Exception as error:  # whatever a phase did, the worker goes on and the row says what it was
            self._fail(claimed, error)
        else:
            took_s = time.monotonic() - begun
            log.info("phase finished phase=%s iteration=%d took_s=%.1f", *_which(claimed), took_s)

    def _run_phase(self, claimed: ClaimedRun, heartbeat: Heartbeat) -> Mapping[str, Any]:
        run = self.phases.get(claimed.phase)
        if run is None:
            raise PhaseUnknown(phase=claimed.phase, known=tuple(self.phases))
        self.last_values = {}
        curves = curves_path(self.settings.data_dir, claimed.phase_run_id)

        def record(values: Mapping[str, float]) -> None:
            append_moment(curves, values, now=self.now())
            self.last_values.update(finite(values))

        with work_folder(self.settings.data_dir, claimed) as work_dir:
            return run(
                PhaseContext(
                    database=self.database,
                    blobs=self.blobs,
                    settings=self.settings,
                    spec=parse_spec(claimed.spec),
                    iteration_id=claimed.iteration_id,
                    iteration_number=claimed.iteration_number,
                    phase_run_id=claimed.phase_run_id,
                    fence=claimed.fence,
                    work_dir=work_dir,
                    report=heartbeat.report,
                    record=record,
                    now=self.now,
                )
            )

    def _release(self, claimed: ClaimedRun) -> None:
        try:
            with self.database.write() as session:
                phase_runs.release(session, claimed, now=self.now())
        except LeaseLost as lost:
            log.warning("phase not given back phase=%s iteration=%d reason=%s", *_which(claimed), lost)
        else:
            log.info("phase given back phase=%s iteration=%d", *_which(claimed))

    def _fail(self, claimed: ClaimedRun, error: Exception) -> None:
        """Record the failure; before another attempt the cause gets a moment to go away."""
        retry, code = may_retry(error), str(getattr(error, "code", type(error).__name__))
        log.error("phase failed phase=%s iteration=%d code=%s", *_which(claimed), code, exc_info=error)
        if retry:
            pause = self.retry_pauses_s[min(claimed.attempt, len(self.retry_pauses_s)) - 1]
            self.stop.wait(pause)
        try:
            with self.database.write() as session:
                phase_runs.fail(
                    session, claimed, error_code=code, message=str(error), retry=retry, now=self.now()
                )
        except LeaseLost as lost:
            log.warning("failure not recorded phase=%s iteration=%d reason=%s", *_which(claimed), lost)


def may_retry(error: Exception) -> bool:
    """Whether trying again may help: the error says so itself; faults of a machine pass, bugs do not."""
    stated = getattr(error, "retryable", None)
    return bool(stated) if stated is not None else isinstance(error, OSError | OperationalError)


@contextmanager
def work_folder(data_dir: Path, claimed: ClaimedRun) -> Iterator[Path]:
    """A scratch folder of one attempt, gone when the attempt is over."""
    folder = data_dir / "work" / claimed.phase_run_id
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _which(claimed: ClaimedRun) -> tuple[str, int]:
    return claimed.phase, claimed.iteration_number
