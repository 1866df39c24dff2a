"""Whose call it is: tokens looked up in the database, and remembered for a moment so that calls are cheap.

A token that fitted is remembered by its sha256, never by itself. After `REMEMBERED_S` its row is read again,
so that long after it was revoked at the latest, every process refuses it; its end is looked at in every call.
What was found out last is kept longer, for the one call that cannot wait until the database is back: a stop.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.exc import OperationalError

from storage import access_tokens
from storage.access_token_tables import AccessTokenRow
from storage.access_tokens import SCOPES, Presented, allowed
from storage.db import Database

log = logging.getLogger(__name__)

REMEMBERED_S = 2.0  # how long a revoked token may still be let in, and a first token not yet asked for
USE_NOTED_EVERY = timedelta(minutes=1)  # last_used_at is no finer: it costs a write


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, and what they may; `token_id` is None for those who were not asked for a token."""

    name: str
    scopes: frozenset[str]
    token_id: str | None = None


STRANGER = Caller(name="stranger", scopes=frozenset())  # on an open path, while others need a token
ANYBODY = Caller(name="rest", scopes=frozenset(SCOPES))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    caller: Caller
    secret_hash: str
    expires_at: datetime | None
    seen_at: float


class Callers:
    """The tokens of one database. All methods may be called from any thread.

    Only `check*` and `of_token` wait for the database, and only to read: that a token was used is written on
    a thread of its own, which no call waits for.
    """

    def __init__(
        self, database: Database, *, now: Callable[[], datetime], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._now = now
        self._clock = clock
        self._hashing = threading.Lock()  # one at a time: a hash takes 16 MiB and a core
        self._known: dict[str, _Known] = {}
        self._noted: dict[str, datetime] = {}  # by a token's id, when its use was last to be written
        self._notes = ThreadPoolExecutor(max_workers=1, thread_name_prefix="token-use")
        self._asking: tuple[bool, float] = (True, float("-inf"))

    def asks_for_token(self) -> bool | None:
        """Whether there are tokens in force, so that everybody is asked for one; None: not known any more."""
        asking, seen_at = self._asking
        return asking if self._is_fresh(seen_at) else None

    def asked_last(self) -> bool:
        """Whether tokens were asked for when the database last answered; yes, where it never has."""
        return self._asking[0]

    def prepare(self) -> None:
        """Find out whether tokens are asked for, for `asked_last` alone: the first call asks again."""
        self._asking = (self.check_whether_to_ask(), float("-inf"))

    def check_whether_to_ask(self) -> bool:
        """The same, read from the database."""
        seen_at = self._clock()
        with self._database.read() as session:
            asking = access_tokens.any_in_force(session)
        self._asking = (asking, seen_at)
        return asking

    def remembered(self, token: str) -> Caller | None:
        """Whose token it is, when that was found out a moment ago."""
        known = self._known.get(_fingerprint(token))
        if known is None or not self._is_fresh(known.seen_at) or self._is_over(known.expires_at):
            return None
        return known.caller

    def last_known(self, token: str) -> Caller | None:
        """Whose token it was when the database last said so, however long ago."""
        known = self._known.get(_fingerprint(token))
        return None if known is None or self._is_over(known.expires_at) else known.caller

    def last_known_by_id(self, token_id: str) -> Caller | None:
        """The same, of a token that is known by its id."""
        known = [one for one in list(self._known.values()) if one.caller.token_id == token_id]
        return None if not known or self._is_over(known[0].expires_at) else known[0].caller

    def has_fitted(self, token: str) -> bool:
        """Whether this token fitted once, so that it is no guess and checking it costs no hash."""
        return _fingerprint(token) in self._known

    def check(self, token: str) -> Caller | None:
        """Whose token it is, asked of the database; None when it is unknown, revoked or over."""
        presented = access_tokens.read(token)
        if presented is None:
            return None
        seen_at, fingerprint = self._clock(), _fingerprint(token)
        with self._database.read() as session:
            row = access_tokens.find(session, presented.id)
        if row is None or not self._in_force(row) or not self._fits(row, presented, fingerprint):
            self._known.pop(fingerprint, None)
            return None
        caller = Caller(name=row.name, scopes=allowed(row.scopes), token_id=row.id)
        self._known[fingerprint] = _Known(
            caller=caller, secret_hash=row.secret_hash, expires_at=row.expires_at, seen_at=seen_at
        )
        self._note_use(row)
        return caller

    def of_token(self, token_id: str) -> Caller | None:
        """Who shows a session of this token, asked of the database; None once it is revoked or over."""
        with self._database.read() as session:
            row = access_tokens.find(session, token_id)
        if row is None or not self._in_force(row):
            return None
        self._note_use(row)
        return Caller(name=row.name, scopes=allowed(row.scopes), token_id=row.id)

    def _in_force(self, row: AccessTokenRow) -> bool:
        return row.revoked_at is None and not self._is_over(row.expires_at)

    def _fits(self, row: AccessTokenRow, presented: Presented, fingerprint: str) -> bool:
        """Whether it is the row's secret; hashed once per process and token, then known by its sha256."""
        with self._hashing:
            known = self._known.get(fingerprint)
            if known is not None and known.secret_hash == row.secret_hash:
                return True
            return access_tokens.matches(row.secret_hash, presented.secret)

    def close(self) -> None:
        """Wait until what is to be noted is written; nothing more can be."""
        self._notes.shutdown()

    def _note_use(self, row: AccessTokenRow) -> None:
        now = self._now()
        before = [at for at in (row.last_used_at, self._noted.get(row.id)) if at is not None]
        if any(now - at < USE_NOTED_EVERY for at in before):
            return
        self._noted[row.id] = now
        self._notes.submit(self._write_use, row, now)

    def _write_use(self, row: AccessTokenRow, now: datetime) -> None:
        try:
            with self._database.write() as session:
                access_tokens.note_use(session, row.id, now=now)
        except OperationalError as failed:  # a busy database keeps nobody out
            log.warning("token use not noted name=%s reason=%s", row.name, failed.orig)

    def _is_fresh(self, seen_at: float) -> bool:
        return self._clock() - seen_at < REMEMBERED_S

    def _is_over(self, ends: datetime | None) -> bool:
        return ends is not None and ends <= self._now()


def _fingerprint(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
