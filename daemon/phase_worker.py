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
from daemon.disk import DiskGuard, free_bytes, is_disk_full
from daemon.errors import PhaseUnknown
from daemon.heartbeat import Heartbeat, PauseAsked, WorkerStopped, leave_process
from daemon.iteration_spans import phase_span
from daemon.judge_costs import judge_costs
from daemon.phases.context import PhaseContext
from daemon.redaction import redactor_of
from daemon.retrying import may_retry
from daemon.run_log import phase_log
from daemon.scheduling.deadlines import Report, in_time
from daemon.scheduling.device_budget import DeviceHoursSpent, budgeted, hours_looked_at
from daemon.settings import Settings
from daemon.spec import IterationSpec, parse_spec
from daemon.stores import open_blobs, open_database, require_same_clock, utc_now
from daemon.worlds.turn import Imagine, WhatIfTurn
from robot_bridge.spans import mark_failed
from storage import device_time, metrics, phase_runs, run_notes
from storage.blobs import BlobStore
from storage.claims import ClaimedRun
from storage.db import Database
from storage.errors import LeaseLost

log = logging.getLogger(__name__)

Phase = Callable[[PhaseContext], Mapping[str, Any]]
RETRY_PAUSES_S = (1.0, 4.0, 10.0, 30.0)  # before the second, third, ... attempt; the last one repeats


def nothing_else() -> bool:
    """What a worker does between phase runs that has nothing else to do."""
    return False


def no_device() -> str | None:
    """The device of phases that compute nothing."""
    return None


def run_worker(
    settings: Settings,
    *,
    name: str,
    stop: threading.Event,
    phases: Mapping[str, Phase],
    imagine: Imagine | None = None,
    device: Callable[[], str | None] = no_device,
) -> None:
    """Work until `stop` is set: at phases, and at what-ifs (with `imagine`) while no phase waits.

    Raises:
        WorkerStopped: it was asked to stop in the middle of a phase; the run is given back.
        DatabaseOutdated, ClockSkewed: it is not migrated yet, or keeps another time than we do.
    """
    database = open_database(settings)
    try:
        database.require_current()
        blobs, between = open_blobs(settings), nothing_else
        if imagine is not None:
            between = WhatIfTurn(
                settings=settings, name=name, stop=stop, database=database, blobs=blobs, imagine=imagine
            ).once
        Worker(
            settings=settings,
            name=name,
            stop=stop,
            phases=phases,
            database=database,
            blobs=blobs,
            between=between,
            device=device,
        ).work()
    finally:
        database.dispose()


@dataclass(slots=True, kw_only=True)
class Worker:
    """One worker. `now` is the wall clock, `leave` ends a process whose phase hangs.

    `measure` gives the free bytes of a folder's disk; `between` does one small thing while no phase run
    waits, and says whether there was one; `device` names what phases compute on, asked once one runs.
    """

    settings: Settings
    name: str
    stop: threading.Event
    phases: Mapping[str, Phase]
    database: Database
    blobs: BlobStore
    now: Callable[[], datetime] = utc_now
    leave: Callable[[], None] = leave_process
    measure: Callable[[Path], int] = free_bytes
    retry_pauses_s: Sequence[float] = RETRY_PAUSES_S
    between: Callable[[], bool] = nothing_else
    device: Callable[[], str | None] = no_device
    short: str | None = None
    last_values: dict[str, float] = field(default_factory=dict)

    def work(self) -> None:
        """Do phase runs one after the other; wait a little when there is none."""
        log.info("worker ready name=%s phases=%s", self.name, ",".join(self.phases))
        while not self.stop.is_set():
            require_same_clock(self.database, self.settings, now=self.now)
            if self.work_once() or (self.short is None and self.between()):
                continue  # phase runs are looked for again before anything else
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
        with phase_log(self.settings, claimed.phase_run_id), heartbeat, phase_span(claimed):
            log.info(
                "phase started phase=%s iteration=%d attempt=%d fence=%d",
                claimed.phase, claimed.iteration_number, claimed.attempt, claimed.fence,
            )  # fmt: skip
            self._attempt(claimed, heartbeat)
        return True

    def _claim(self) -> ClaimedRun | None:
        try:
            if self._waits_for_room():
                return None
            with self.database.write() as session:
                return phase_runs.claim(session, self.name, ttl_s=self.settings.lease_ttl_s, now=self.now())
        except OperationalError as failed:
            log.warning("claim failed reason=%s", failed.orig)
            return None

    def _room(self) -> DiskGuard:
        return DiskGuard(
            folder=self.settings.data_dir, min_free_mb=self.settings.min_free_disk_mb, measure=self.measure
        )

    def _waits_for_room(self) -> bool:
        """Whether the disk is too full to begin anything; then every queued run says so."""
        before, self.short = self.short, self._room().shortage()
        if self.short is None:
            if before is not None:
                log.info("worker goes on name=%s reason=there is room again", self.name)
            return False
        if before is None:
            log.warning("worker waits name=%s reason=%s", self.name, self.short)
        with self.database.read() as session:
            untold = run_notes.queued_without(session, self.short)
        if untold:
            with self.database.write() as session:
                run_notes.say_waiting(session, self.short)
        return True

    def _attempt(self, claimed: ClaimedRun, heartbeat: Heartbeat) -> None:
        """The outermost loop's body: the one place where any error of a phase is caught."""
        begun = time.monotonic()
        try:
            outcome = self._run_phase(claimed, heartbeat)
            with self.database.write() as session:
                phase_runs.finish(session, claimed, outcome=outcome, now=self.now())
                metrics.record(session, claimed.phase_run_id, self._values(claimed), now=self.now())
        except LeaseLost as lost:
            mark_failed(lost.code)
            log.warning("phase given up phase=%s iteration=%d reason=%s", *_which(claimed), lost)
        except WorkerStopped:
            self._release(claimed, why="the worker was asked to stop")
            raise
        except PauseAsked:
            self._release(claimed, why="the iteration is to be paused")
        except DeviceHoursSpent as spent:
            self._release(claimed, why=str(spent), code=phase_runs.DEVICE_BUDGET_SPENT)
        except Exception as error:  # whatever a phase did, the worker goes on and the row says what it was
            self._fail(claimed, error)
        else:
            took_s = time.monotonic() - begun
            log.info("phase finished phase=%s iteration=%d took_s=%.1f", *_which(claimed), took_s)

    def _run_phase(self, claimed: ClaimedRun, heartbeat: Heartbeat) -> Mapping[str, Any]:
        run = self.phases.get(claimed.phase)
        if run is None:
            raise PhaseUnknown(phase=claimed.phase, known=tuple(self.phases))
        self._note_device(claimed)
        self.last_values = {}
        spec = parse_spec(claimed.spec)
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
                    spec=spec,
                    iteration_id=claimed.iteration_id,
                    iteration_number=claimed.iteration_number,
                    phase_run_id=claimed.phase_run_id,
                    fence=claimed.fence,
                    work_dir=work_dir,
                    report=self._report(claimed, heartbeat, spec=spec),
                    record=record,
                    now=self.now,
                    shortage=self._room().shortage,
                )
            )

    def _note_device(self, claimed: ClaimedRun) -> None:
        if (name := self.device()) is not None:
            with self.database.write() as session:
                device_time.note_device(session, claimed, name)

    def _report(self, claimed: ClaimedRun, heartbeat: Heartbeat, *, spec: IterationSpec) -> Report:
        """What a phase reports through: it ends there when it is late, or device hours are spent."""
        report = in_time(heartbeat.report, claimed, spec=spec, database=self.database)
        if claimed.phase not in device_time.LEARNING:
            return report
        spent = hours_looked_at(self.database, claimed, settings=self.settings, now=self.now)
        return budgeted(report, spent=spent)

    def _values(self, claimed: ClaimedRun) -> dict[str, float]:
        """The last values of the phase, and what its judge has cost the iteration until now."""
        return {**self.last_values, **judge_costs(self.settings.data_dir, claimed.iteration_id)}

    def _release(self, claimed: ClaimedRun, *, why: str, code: str = phase_runs.RELEASED) -> None:
        try:
            with self.database.write() as session:
                phase_runs.release(session, claimed, now=self.now(), why=why, code=code)
        except (LeaseLost, OperationalError) as lost:  # then the lease runs out
            log.warning("phase not given back phase=%s iteration=%d reason=%s", *_which(claimed), lost)
        else:
            log.info("phase given back phase=%s iteration=%d reason=%s", *_which(claimed), why)

    def _fail(self, claimed: ClaimedRun, error: Exception) -> None:
        """Record the failure; before another attempt the cause gets a moment to go away."""
        retry, code = may_retry(error), str(getattr(error, "code", type(error).__name__))
        message = redactor_of(self.settings).clean(str(error))
        mark_failed(code)
        log.error("phase failed phase=%s iteration=%d code=%s", *_which(claimed), code, exc_info=error)
        if is_disk_full(error):
            self._release(claimed, why=message, code=phase_runs.DISK_FULL)
            self.stop.wait(self.retry_pauses_s[-1])
            return
        if retry:
            self.stop.wait(self.retry_pauses_s[min(claimed.attempt, len(self.retry_pauses_s)) - 1])
        try:
            with self.database.write() as session:
                phase_runs.fail(
                    session, claimed, error_code=code, message=message, retry=retry, now=self.now()
                )
                costs = judge_costs(self.settings.data_dir, claimed.iteration_id)
                metrics.record(session, claimed.phase_run_id, costs, now=self.now())
        except (LeaseLost, OperationalError) as lost:
            log.warning("failure not recorded phase=%s iteration=%d reason=%s", *_which(claimed), lost)


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
