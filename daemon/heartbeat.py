"""Keeps a lease while work goes on, from a thread beside it: that of a phase run, while it makes progress.

A phase that has said nothing for too long is not kept alive: its run is given back as failed and its
process ends, because a thread that hangs cannot be taken out of a process any other way.
"""

import logging
import os
import threading
import time
from abc import ABC, abstractmethod
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


class Beating(ABC):
    """Entered for the time of one attempt: beats until the attempt has ended, or its lease is lost.

    Whoever derives from it says how to `_beat` and when work `_hangs`; `what` names the work in the log.
    """

    def __init__(self, *, what: str, ttl_s: float) -> None:
        self._what = what
        self._interval_s = min(LONGEST_INTERVAL_S, ttl_s / BEATS_PER_TTL)
        self._ended = threading.Event()
        self._lost: LeaseLost | None = None
        self._said = (0.0, "starting")
        self._thread = threading.Thread(target=self._beat_until_ended, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @abstractmethod
    def _hangs(self) -> bool:
        """Whether the work was given up because it hangs; the thread then ends."""

    @abstractmethod
    def _beat(self, progress: float, text: str) -> None:
        """Renew the lease and tell how far the work is."""

    def _beat_until_ended(self) -> None:
        while self._lost is None and not self._ended.wait(self._interval_s):
            if self._hangs():
                return
            try:
                self._beat(*self._said)
            except LeaseLost as lost:
                self._lost = lost
                log.warning("lease lost %s reason=%s", self._what, lost)
            except OperationalError as failed:
                log.warning("heartbeat missed %s reason=%s", self._what, failed.orig)


class Heartbeat(Beating):
    """The beating of a phase run; `report` is what the phase is given.

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
        super().__init__(what=f"phase={claimed.phase}", ttl_s=claimed.ttl_s)
        self._database = database
        self._claimed = claimed
        self._stop = stop
        self._stall_after_s = stall_after_s
        self._now = now
        self._leave = leave
        self._pause = False
        self._said_at = time.monotonic()

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

    def _hangs(self) -> bool:
        silent_s = time.monotonic() - self._said_at
        if silent_s < self._stall_after_s:
            return False
        self._give_back(PhaseStalled(phase=self._claimed.phase, silent_s=silent_s))
        return True

    def _beat(self, progress: float, text: str) -> None:
        with self._database.write() as session:
            self._pause = phase_runs.heartbeat(
                session, self._claimed, progress=progress, text=text, now=self._now()
            )

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
