"""The daemon's clockwork: a few jobs, each run again and again, never twice at once."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy.exc import OperationalError

from daemon.errors import ClockSkewed, DaemonError
from daemon.iteration import advance
from daemon.scheduling.budgets import budgets_of
from daemon.scheduling.due import anything_due, run_due
from daemon.stores import require_same_clock
from daemon.supervisor import Supervisor
from storage import iterations
from storage.db import Database
from storage.errors import StorageError

log = logging.getLogger(__name__)

ADVANCE_EVERY_S = 0.5
SUPERVISE_EVERY_S = 1.0
LOOK_AT_SCHEDULES_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something that the daemon does by itself again and again: sweeps, and whatever else is handed in.

    `run` gets the time and gives a phrase for the log, or None where there was nothing to do. Errors of ours,
    of the disk and of the database are logged, and it is tried again at its next time.
    """

    name: str
    run: Callable[[datetime], str | None]
    every_s: float
    first_after_s: float = 0.0


class Scheduler:
    """Advances iterations, asks for those that are due, looks after the workers, and does its jobs."""

    def __init__(
        self,
        database: Database,
        supervisor: Supervisor,
        *,
        now: Callable[[], datetime],
        jobs: Sequence[Job] = (),
    ) -> None:
        self._database = database
        self._supervisor = supervisor
        self._now = now
        self._is_skewed = False
        look = Job(name="schedules", run=self.ask_for_due, every_s=LOOK_AT_SCHEDULES_EVERY_S)
        self._own = (look, *jobs)
        self._jobs = BackgroundScheduler(timezone=UTC)

    def start(self) -> None:
        """Start all jobs; the first run of each is now, unless the job says later."""
        self._add(self.advance, every_s=ADVANCE_EVERY_S)
        self._add(self._supervisor.check, every_s=SUPERVISE_EVERY_S)
        for job in self._own:
            self._add(partial(self.run, job), every_s=job.every_s, first_after_s=job.first_after_s)
        self._jobs.start()

    def _add(self, run: Callable[[], object], *, every_s: float, first_after_s: float = 0.0) -> None:
        self._jobs.add_job(
            run,
            "interval",
            seconds=every_s,
            next_run_time=self._now() + timedelta(seconds=first_after_s),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )

    def run(self, job: Job) -> None:
        """Do a job once; what it could not do is tried again at its next time."""
        try:
            done = job.run(self._now())
        except (DaemonError, StorageError, OSError, OperationalError) as failed:
            log.warning("job failed job=%s code=%s reason=%s", job.name, _code(failed), failed)
            return
        if done is not None:
            log.info("%s", done)

    def ask_for_due(self, now: datetime) -> str | None:
        """Ask for the iterations of schedules that are due."""
        with self._database.read() as session:
            if not anything_due(session, now=now):
                return None
        with self._database.write() as session:
            done = run_due(session, now=now)
        return "; ".join(done) or None

    def stop(self) -> None:
        """Let running jobs end and start no more."""
        self._jobs.shutdown(wait=True)

    def running(self) -> bool:
        """Whether iterations are being advanced."""
        return bool(self._jobs.running)

    def advance(self) -> None:
        """Take iterations as far as they go now; a busy database is tried again at the next run.

        While the database keeps another time than we do nothing is done: live workers would lose their runs.
        """
        try:
            require_same_clock(self._database, self._supervisor.settings, now=self._now)
            self._is_skewed = False
            while self._advance_once():
                pass
        except OperationalError as failed:
            log.warning("advance failed reason=%s", failed.orig)
        except ClockSkewed as skewed:
            if not self._is_skewed:
                log.error("iterations stand still code=%s reason=%s", skewed.code, skewed)
            self._is_skewed = True

    def _advance_once(self) -> bool:
        with self._database.read() as session:  # most runs find nothing, and then nobody is held up
            if not iterations.unfinished(session):
                return False
        with self._database.write() as session:
            budgets = budgets_of(self._supervisor.settings)
            done = advance(session, now=self._now(), budgets=budgets)
        if done is not None:
            log.info("%s", done)
        return done is not None


def _code(failed: Exception) -> str:
    return str(getattr(failed, "code", None) or type(failed).__name__)
