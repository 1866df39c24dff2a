"""The daemon's clockwork: a few jobs, each run again and again, never twice at once."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy.exc import OperationalError

from daemon.iteration import advance
from daemon.supervisor import Supervisor
from storage import iterations
from storage.db import Database

log = logging.getLogger(__name__)

ADVANCE_EVERY_S = 0.5
SUPERVISE_EVERY_S = 1.0


Job = tuple[Callable[[], object], float]  # what is done, and every how many seconds


class Scheduler:
    """Advances iterations and looks after the workers while it is started; `also` is done beside that."""

    def __init__(
        self,
        database: Database,
        supervisor: Supervisor,
        *,
        now: Callable[[], datetime],
        also: Sequence[Job] = (),
    ) -> None:
        self._database = database
        self._supervisor = supervisor
        self._now = now
        self._also = also
        self._jobs = BackgroundScheduler(timezone=UTC)

    def start(self) -> None:
        """Start all jobs; the first run of each is now."""
        own: Sequence[Job] = (
            (self.advance, ADVANCE_EVERY_S),
            (self._supervisor.check, SUPERVISE_EVERY_S),
        )
        for job, every_s in (*own, *self._also):
            self._jobs.add_job(
                job,
                "interval",
                seconds=every_s,
                next_run_time=self._now(),
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
            )
        self._jobs.start()

    def stop(self) -> None:
        """Let running jobs end and start no more."""
        self._jobs.shutdown(wait=True)

    def running(self) -> bool:
        """Whether iterations are being advanced."""
        return bool(self._jobs.running)

    def advance(self) -> None:
        """Take iterations as far as they go now; a busy database is tried again at the next run."""
        try:
            while self._advance_once():
                pass
        except OperationalError as failed:
            log.warning("advance failed reason=%s", failed.orig)

    def _advance_once(self) -> bool:
        with self._database.read() as session:  # most runs find nothing, and then nobody is held up
            if not iterations.unfinished(session):
                return False
        with self._database.write() as session:
            done = advance(session, now=self._now())
        if done is not None:
            log.info("%s", done)
        return done is not None
