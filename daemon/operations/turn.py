"""Backup and gc take turns: one lease in the database, so that neither removes what the other copies."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Self

from sqlalchemy.exc import OperationalError

from storage import leases
from storage.db import Database
from storage.errors import LeaseLost

MAINTENANCE = "maintenance"
TTL_S = 900.0  # a turn that was killed ends by itself after so long
RENEW_AFTER_S = 60.0


class Turn:
    """Held while it is entered; `keep` is called again and again meanwhile.

    Raises (on entering):
        LeaseHeld: another backup or gc has its turn; the sentence says who and until when.
    """

    def __init__(self, database: Database, what: str, *, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now
        self._holder = f"{what} pid {os.getpid()} on {os.uname().nodename}"
        self._fence, self._renewed = 0, 0.0

    def __enter__(self) -> Self:
        with self._database.write() as session:
            lease = leases.acquire(session, MAINTENANCE, holder=self._holder, ttl_s=TTL_S, now=self._now())
        self._fence, self._renewed = lease.fence, time.monotonic()
        return self

    def keep(self) -> None:
        """Hold on.

        Raises:
            LeaseLost: this took so long that another came.
        """
        if time.monotonic() - self._renewed < RENEW_AFTER_S:
            return
        with self._database.write() as session:
            leases.renew(session, MAINTENANCE, fence=self._fence, ttl_s=TTL_S, now=self._now())
        self._renewed = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(LeaseLost, OperationalError), self._database.write() as session:  # then it runs out
            leases.release(session, MAINTENANCE, fence=self._fence, now=self._now())
