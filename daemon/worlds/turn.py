"""A worker's turn at a what-if: claim one, keep its lease, record how it ended. No torch here.

A what-if is done only while no phase run waits, one between two looks for phase runs, and within `LIMIT_S`:
that is the most by which it can delay a phase that is queued meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.exc import OperationalError

from daemon.heartbeat import Beating, WorkerStopped, leave_process
from daemon.redaction import redactor_of
from daemon.retrying import may_retry
from daemon.settings import Settings
from daemon.stores import utc_now
from daemon.worlds.errors import WhatIfOverdue
from storage import what_ifs
from storage.blobs import BlobStore
from storage.db import Database
from storage.errors import LeaseLost
from storage.what_ifs import ClaimedWhatIf

log = logging.getLogger(__name__)

LIMIT_S = 300.0  # sixteen rollouts of a hundred steps take a tenth of it on two CPU cores
GRACE_S = 60.0  # longer than any step of it: one that has said nothing by then hangs


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfContext:
    """One attempt at a what-if.

    `report` takes a share and a phrase; it raises LeaseLost, WorkerStopped or WhatIfOverdue.
    """

    database: Database
    blobs: BlobStore
    settings: Settings
    request: Mapping[str, Any]
    report: Callable[[float, str], None]
    now: Callable[[], datetime]


Imagine = Callable[[WhatIfContext], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfTurn:
    """What a worker does between phase runs. `clock` measures how long one takes."""

    settings: Settings
    name: str
    stop: threading.Event
    database: Database
    blobs: BlobStore
    imagine: Imagine
    now: Callable[[], datetime] = utc_now
    clock: Callable[[], float] = time.monotonic
    leave: Callable[[], None] = leave_process

    def once(self) -> bool:
        """Do one what-if, if one waits; says whether there was one.

        Raises:
            WorkerStopped: it was asked to stop; the what-if is given back.
        """
        claimed = self._claim()
        if claimed is None:
            return False
        begun = self.clock()
        pulse = Pulse(self, claimed)
        with pulse:
            state = self._attempt(claimed, pulse)
        took_s = self.clock() - begun
        log.info("what-if ended what_if=%s state=%s took_s=%.1f", claimed.what_if_id, state, took_s)
        return True

    def _claim(self) -> ClaimedWhatIf | None:
        try:
            with self.database.read() as session:
                if not what_ifs.count_open(session):
                    return None
            with self.database.write() as session:
                return what_ifs.claim(session, self.name, ttl_s=self.settings.lease_ttl_s, now=self.now())
        except OperationalError as failed:
            log.warning("what-if not claimed reason=%s", failed.orig)
            return None

    def _attempt(self, claimed: ClaimedWhatIf, pulse: Pulse) -> str:
        """As with phases, whatever it did, the worker goes on and the row says what it was."""
        try:
            result = self.imagine(
                WhatIfContext(
                    database=self.database,
                    blobs=self.blobs,
                    settings=self.settings,
                    request=claimed.request,
                    report=pulse.report,
                    now=self.now,
                )
            )
            with self.database.write() as session:
                what_ifs.finish(session, claimed, result=result, now=self.now())
        except LeaseLost as lost:
            log.warning("what-if given up what_if=%s reason=%s", claimed.what_if_id, lost)
            return "lost"
        except WorkerStopped:
            self._write(claimed, lambda s: what_ifs.release(s, claimed, now=self.now()))
            raise
        except Exception as error:
            self.fail(claimed, error)
            return "failed"
        return "finished"

    def fail(self, claimed: ClaimedWhatIf, error: Exception) -> None:
        """Record why it failed; it is tried once more if the error says that this may help."""
        code = str(getattr(error, "code", type(error).__name__))
        log.error("what-if failed what_if=%s code=%s", claimed.what_if_id, code, exc_info=error)
        said, retry = (code, redactor_of(self.settings).clean(str(error))), may_retry(error)
        self._write(claimed, lambda s: what_ifs.fail(s, claimed, error=said, retry=retry, now=self.now()))

    def _write(self, claimed: ClaimedWhatIf, act: Callable[[Any], None]) -> None:
        try:
            with self.database.write() as session:
                act(session)
        except (LeaseLost, OperationalError) as lost:  # then the lease runs out, and it is found
            log.warning("end of what-if not recorded what_if=%s reason=%s", claimed.what_if_id, lost)


class Pulse(Beating):
    """The beating of a what-if: ends one that hangs, with its process."""

    def __init__(self, turn: WhatIfTurn, claimed: ClaimedWhatIf) -> None:
        super().__init__(what=f"what_if={claimed.what_if_id}", ttl_s=claimed.ttl_s, leave=turn.leave)
        self._turn, self._claimed = turn, claimed
        self._begun = turn.clock()

    def report(self, progress: float, text: str) -> None:
        """Say how far it is.

        Raises:
            LeaseLost, WorkerStopped, WhatIfOverdue: stop, and write nothing more.
        """
        if self._lost is not None:
            raise self._lost
        if self._turn.stop.is_set():
            raise WorkerStopped
        if self._took_s() > LIMIT_S:
            raise WhatIfOverdue(limit_s=LIMIT_S)
        self._said = (progress, text)

    def _took_s(self) -> float:
        return self._turn.clock() - self._begun

    def _hangs(self) -> bool:
        return self._took_s() > LIMIT_S + GRACE_S

    def _give_back(self) -> None:
        self._turn.fail(self._claimed, WhatIfOverdue(limit_s=LIMIT_S))

    def _beat(self, progress: float, text: str) -> None:
        with self._turn.database.write() as session:
            what_ifs.heartbeat(session, self._claimed, progress=progress, text=text, now=self._turn.now())
