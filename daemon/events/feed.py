"""One look at the database for all event streams together, and what each of them sends.

A stream holds nothing back for its reader: it knows its position and reads the rows behind it, so a slow
reader costs no memory, and one that comes back with its last id misses nothing and sees nothing twice.
Progress of running phases is told as it is now and never stored.
"""

import json
import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from daemon.events.errors import StreamsFull
from daemon.events.words import event_record
from storage import events
from storage.db import Database
from storage.event_tables import EventRow
from storage.tables import IterationRow, PhaseRunRow

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
MOST_STREAMS = 16  # each holds a thread of its own while it waits
QUANTUM_S = 1.0  # a stream wakes this often, so that a reader that left is noticed
HEARTBEAT_S = 15.0  # silence after which a comment is sent; proxies cut connections that say nothing
SLOW_S = 30.0  # a reader that takes nothing for so long is left
RECONNECT_MS = 2000  # what a reader is told to wait before it comes back
PAGE = 200  # events read at once
FIRST_LOOK = -1

Progress = Mapping[str, Mapping[str, Any]]  # by phase run


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the last look found; `version` rises when it differs from the one before."""

    version: int
    newest: int
    progress: Progress


class Feed:
    """Looks while somebody listens, and wakes the streams when something is new. Threads may share it."""

    def __init__(self, database: Database, *, most: int = MOST_STREAMS, slow_s: float = SLOW_S) -> None:
        self._database, self._most, self.slow_s = database, most, slow_s
        self._changed = threading.Condition()
        self._moment = Moment(version=0, newest=0, progress={})
        self._listeners = 0
        self._closed = False

    @property
    def listeners(self) -> int:
        """How many streams are open."""
        with self._changed:
            return self._listeners

    def enter(self) -> None:
        """Take a place among the streams; `leave` gives it back.

        Raises:
            StreamsFull: there is none.
        """
        with self._changed:
            if self._listeners >= self._most:
                raise StreamsFull(most=self._most)
            if not self._listeners:  # what was found when somebody listened last is over by now
                self._moment = replace(self._moment, version=self._moment.version + 1, progress={})
            self._listeners += 1

    def leave(self) -> None:
        with self._changed:
            self._listeners -= 1

    def look(self) -> None:
        """See what is new; the scheduler calls this. A busy database is looked at again."""
        if not self.listeners:
            return
        try:
            with self._database.read() as session:
                newest, progress = events.newest_position(session), running_phases(session)
        except OperationalError as failed:
            log.warning("look at events failed reason=%s", failed.orig)
            return
        with self._changed:
            before = self._moment
            if (newest, progress) != (before.newest, before.progress):
                self._moment = Moment(version=before.version + 1, newest=newest, progress=progress)
                self._changed.notify_all()

    def wait(self, version: int, timeout_s: float) -> Moment | None:
        """The newest moment, once it is another one than `version` or the time is over; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._moment.version != version, timeout_s)
            return None if self._closed else self._moment

    def close(self) -> None:
        """End every stream, and every one that is opened from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def running_phases(session: Session) -> Progress:
    """How far every phase that runs now is, by phase run."""
    query = (
        sa.select(PhaseRunRow, IterationRow.number)
        .join(IterationRow, IterationRow.id == PhaseRunRow.iteration_id)
        .where(PhaseRunRow.state == "running")
        .order_by(IterationRow.number, PhaseRunRow.phase)
    )
    return {
        run.id: {
            "iteration": number,
            "phase": run.phase,
            "attempt": run.attempt,
            "worker": run.worker,
            "progress": run.progress,
            "text": run.progress_text,
            "started_at": None if run.started_at is None else run.started_at.isoformat(),
        }
        for run, number in session.execute(query)
    }


def stream(
    database: Database,
    feed: Feed,
    *,
    position: int,
    kinds: Collection[str] = (),
    heartbeat_s: float = HEARTBEAT_S,
) -> Iterator[bytes]:
    """What one reader is sent, from behind a position on, until the feed is closed.

    An empty piece says nothing and lets the server see whether the reader is still there.
    """
    version, shown = FIRST_LOOK, dict[str, Mapping[str, Any]]()
    said_at = time.monotonic()
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    while (moment := feed.wait(version, QUANTUM_S)) is not None:
        text = b""
        if moment.version != version:
            for rows in _pages(database, position, kinds=kinds):
                position = rows[-1].id
                yield b"".join(frame(event_record(row), name=row.kind, position=row.id) for row in rows)
            new = [own for run, own in moment.progress.items() if shown.get(run) != own]
            text = b"".join(frame(own, name="progress") for own in new)
            version, shown = moment.version, dict(moment.progress)
        elif time.monotonic() - said_at >= heartbeat_s:
            text = b": nothing new\n\n"
        if text:
            said_at = time.monotonic()
        yield text


def frame(record: Mapping[str, Any], *, name: str, position: int | None = None) -> bytes:
    """One server-sent event; JSON has no line breaks of its own."""
    head = "" if position is None else f"id: {position}\n"
    return f"{head}event: {name}\ndata: {json.dumps(record)}\n\n".encode()


def _pages(database: Database, position: int, *, kinds: Collection[str]) -> Iterator[list[EventRow]]:
    while True:
        with database.read() as session:
            rows = events.after(session, position, kinds=kinds, limit=PAGE)
        if not rows:
            return
        yield rows
        if len(rows) < PAGE:
            return
        position = rows[-1].id
