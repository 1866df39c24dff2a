"""Keeps a lease while work goes on, from a thread beside it: that of a phase run, while it makes progress.

A phase that has said nothing for too long is not kept alive: its run is given back as failed and its
process ends, because a thread that hangs cannot be taken out of a process any other way. A thread of its own
watches for that: the one that beats may be waiting for a database that is gone, as may the phase.
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
GIVE_BACK_S = 10.0  # for the database to take a run that hangs; then the process ends all the same
JOIN_S = GIVE_BACK_S + 5.0  # for a thread to end after the work


class WorkerStopped(BaseException):
    """This worker was asked to stop. Not an Exception: no phase may take it for a fault of its own."""


class PauseAsked(BaseException):
    """The iteration is to be paused. Not an Exception either, and no end of the worker."""


def leave_process() -> None:
    """End this process at once, hung threads included."""
    os._exit(STALLED_EXIT)


class Beating(ABC):
    """Entered for the time of one attempt: beats until the attempt has ended, or its lease is lost.

    Whoever derives from it says how to `_beat`, when work `_hangs`, and how to `_give_back` what does; `what`
    names the work in the log, `leave` is called after work that hangs was given back.
    """

    def __init__(self, *, what: str, ttl_s: float, leave: Callable[[], None]) -> None:
        self._what = what
        self._leave = leave
        self._interval_s = min(LONGEST_INTERVAL_S, ttl_s / BEATS_PER_TTL)
        self._ended = threading.Event()
        self._lost: LeaseLost | None = None
        self._said = (0.0, "starting")
        self._threads = (_beside("heartbeat", self._beat_until_ended), _beside("stall-watch", self._watch))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        deadline = time.monotonic() + JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():  # it writes nothing more: the run's fence is used
                log.warning(
                    "%s still waits for the database %s waited_s=%.0f", thread.name, self._what, JOIN_S
                )

    @abstractmethod
    def _hangs(self) -> bool:
        """Whether the work has said nothing for too long. It asks nobody, so it cannot hang itself."""

    @abstractmethod
    def _give_back(self) -> None:
        """Record that the work hangs."""

    @abstractmethod
    def _beat(self, progress: float, text: str) -> None:
        """Renew the lease and tell how far the work is."""

    def _watch(self) -> None:
        while not self._ended.wait(self._interval_s):
            if self._hangs():
                giving = _beside("give-back", self._give_back)
                giving.start()
                giving.join(GIVE_BACK_S)
                if giving.is_alive():
                    log.error(
                        "database away, left without giving back %s waited_s=%.0f", self._what, GIVE_BACK_S
                    )
                self._leave()
                return

    def _beat_until_ended(self) -> None:
        while self._lost is None and not self._ended.wait(self._interval_s):
            try:
                self._beat(*self._said)
            except LeaseLost as lost:
                self._lost = lost
                log.warning("lease lost %s reason=%s", self._what, lost)
            except OperationalError as failed:
                log.warning("heartbeat missed %s reason=%s", self._what, failed.orig)


def _beside(name: str, work: Callable[[], None]) -> threading.Thread:
    """A thread that keeps no process from ending."""
    return threading.Thread(target=work, name=name, daemon=True)


class Heartbeat(Beating):
    """The beating of a phase run; `report` is what the phase is given.

    `stop` is looked at whenever the phase reports.
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
        super().__init__(what=f"phase={claimed.phase}", ttl_s=claimed.ttl_s, leave=leave)
        self._database = database
        self._claimed = claimed
        self._stop = stop
        self._stall_after_s = stall_after_s
        self._now = now
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
        return self._silent_s() >= self._stall_after_s

    def _silent_s(self) -> float:
        return time.monotonic() - self._said_at

    def _beat(self, progress: float, text: str) -> None:
        with self._database.write() as session:
            self._pause = phase_runs.heartbeat(
                session, self._claimed, progress=progress, text=text, now=self._now()
            )

    def _give_back(self) -> None:
        stalled = PhaseStalled(phase=self._claimed.phase, silent_s=self._silent_s())
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
