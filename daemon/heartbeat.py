"""Keeps the lease of a phase run while the phase makes progress, from a thread beside it.

A phase that has said nothing for too long is not kept alive: its run is given back as failed and its
process ends, because a thread that hangs cannot be taken out of a process any other way.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from sqlalchemy.exc import OperationalError

from daemon.errors import PhaseStalled
from storage import phase_runs
from storage.claims import ClaimedRun
from storage.db import Database
from storage.errors import LeaseLost

log = logging.getLogger(__name__)

BEATS_PER_TTL = 4  # so that three writes may fail before the lease runs out
LONGEST_INTERVAL_S = 1.0  # people watch the progress bar
STALLED_EXIT = 70


class WorkerStopped(BaseException):
    """This worker was asked to stop. Not an Exception: no phase may take it for a fault of its own."""


class PauseAsked(BaseException):
    """The iteration is to be paused. Not an Exception either, and no end of the worker."""


def leave_process() -> None:
    """End this process at once, hung threads included."""
    os._exit(STALLED_EXIT)


class Heartbeat:
    """Entered for the time of one attempt; `report` is what the phase is given.

    `stop` is looked at whenever the phase reports; `leave` is called after a stalled run was given back.
    """

    def __init__(
        self,
        database: Database,
        claimed: ClaimedRun,
        *,
        stop: threading.Event,
        stall_after_s: float,
        now: Callable[[], datetime],
        leave: Callable[[], None] = leave_process,
    ) -> None:
        self._database = database
        self._claimed = claimed
        self._stop = stop
        self._stall_after_s = stall_after_s
        self._now = now
        self._leave = leave
        self._ended = threading.Event()
        self._lost: LeaseLost | None = None
        self._pause = False
        self._said = (0.0, "starting")
        self._said_at = time.monotonic()
        self._thread = threading.Thread(target=self._beat_until_ended, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def report(self, progress: float, text: str) -> None:
        """Say how far the phase is, a share between 0 and 1, and what it does.

        Raises:
            LeaseLost: the run was given to somebody else; leave without writing anything more.
            WorkerStopped: this worker was asked to stop.
            PauseAsked: the iteration is to be paused; the run is given back and goes on from here later.
        """
        if self._lost is not None:
            raise self._lost
        if self._stop.is_set():
            raise WorkerStopped
        if self._pause:
            raise PauseAsked
        self._said = (progress, text)
        self._said_at = time.monotonic()

    def _beat_until_ended(self) -> None:
        interval_s = min(LONGEST_INTERVAL_S, self._claimed.ttl_s / BEATS_PER_TTL)
        while self._lost is None and not self._ended.wait(interval_s):
            silent_s = time.monotonic() - self._said_at
            if silent_s >= self._stall_after_s:
                self._give_back(PhaseStalled(phase=self._claimed.phase, silent_s=silent_s))
                return
            self._beat()

    def _beat(self) -> None:
        progress, text = self._said
        try:
            with self._database.write() as session:
                self._pause = phase_runs.heartbeat(
                    session, self._claimed, progress=progress, text=text, now=self._now()
                )
        except LeaseLost as lost:
            self._lost = lost
            log.warning("lease lost phase=%s reason=%s", self._claimed.phase, lost)
        except OperationalError as failed:
            log.warning("heartbeat missed phase=%s reason=%s", self._claimed.phase, failed.orig)

    def _give_back(self, stalled: PhaseStalled) -> None:
        log.error("phase stalled phase=%s reason=%s", self._claimed.phase, stalled)
        try:
            with self._database.write() as session:
                phase_runs.fail(
                    session,
                    self._claimed,
                    error_code=stalled.code,
                    message=str(stalled),
                    retry=True,
                    now=self._now(),
                )
        except (LeaseLost, OperationalError) as failed:
            log.warning("stalled run not given back phase=%s reason=%s", self._claimed.phase, failed)
        self._leave()
