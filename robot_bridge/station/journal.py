"""What happened at a station, in order: an append-only journal with cursors and long-polling.

Its files are in `segments`, its call in `event_routes`.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from robot_bridge.events import EVENTS_MAX, EVENTS_WAIT_MAX_S, EventAnswer, EventsAnswer, Fact
from robot_bridge.station.segments import Segments

log = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 1024 * 1024
SEGMENTS_KEPT: Final = 16
REMEMBERED: Final = 2 * EVENTS_MAX  # newest events in memory, also those that the disk did not take
BATCH: Final = 64  # events in one write, so that trying in vain stays cheap
WAITERS_MAX: Final = 8  # of the station's forty worker threads; the others must stay free
TEXT_MAX: Final = 2000  # characters of one fact


class Journal:
    """The events of one station. All methods may be called from any thread.

    Whoever reads an event can rely on its cursor: it is on disk by then. While the disk takes nothing, events
    are told from memory, are written as soon as it takes them again, and the file `ceiling`, which is changed
    in place and needs no room, keeps a crash from giving their cursors a second time.
    """

    def __init__(
        self,
        root: Path,
        *,
        now: Callable[[], datetime],
        segment_bytes: int = SEGMENT_BYTES,
        segments_kept: int = SEGMENTS_KEPT,
    ) -> None:
        self._now = now
        self._segments = Segments(root / "journal", segment_bytes=segment_bytes, segments_kept=segments_kept)
        self._memory: deque[EventAnswer] = deque(maxlen=REMEMBERED)
        self._last = self._told = self._segments.last
        self._waiters = 0
        self._open = True
        self._failing = False
        self._changed = threading.Condition()
        self._disk = threading.Lock()

    def append(self, kind: str, *, episode_id: str | None = None, **facts: Fact) -> int:
        """Note an event and give its cursor. Never raises for a disk, and never waits for another's write."""
        plain = {name: _plain(fact) for name, fact in facts.items()}
        with self._changed:
            self._last += 1
            self._memory.append(
                EventAnswer(cursor=self._last, at=self._now(), kind=kind, episode_id=episode_id, facts=plain)
            )
            cursor = self._last
        self._flush()
        return cursor

    def read(self, after: int = 0, *, limit: int = EVENTS_MAX) -> EventsAnswer:
        """At most `limit` events with cursors above `after`, oldest first."""
        limit = min(max(limit, 1), EVENTS_MAX)
        with self._changed:
            told = [event for event in self._memory if event.cursor <= self._told]
            last = self._told
        found: list[EventAnswer] = []
        if after < last and (not told or told[0].cursor > after + 1):
            found = self._segments.read(after, limit=limit)
        if not found:
            found = [event for event in told if event.cursor > after][:limit]
        return EventsAnswer(
            events=tuple(found),
            next_cursor=found[-1].cursor if found else min(max(after, 0), last),
            oldest=min(
                (n for n in (self._segments.oldest, told[0].cursor if told else 0) if n), default=last + 1
            ),
        )

    def newest(self, kind: str) -> EventAnswer | None:
        """The last event of a kind that is still kept."""
        with self._changed:
            found = next((event for event in reversed(self._memory) if event.kind == kind), None)
        return found or self._segments.newest(kind)

    def wait(self, after: int, *, timeout_s: float, limit: int = EVENTS_MAX) -> EventsAnswer:
        """Like `read`, but waits for an event when there is none yet, `timeout_s` seconds at most.

        When eight wait already, or the station is ending, the answer comes at once and may be empty.
        """
        return self.wait_a_while(after, timeout_s=timeout_s, limit=limit)[0]

    def wait_a_while(
        self, after: int, *, timeout_s: float, limit: int = EVENTS_MAX
    ) -> tuple[EventsAnswer, bool]:
        """What `wait` gives, and whether the time ran out: then, and only then, it is worth waiting more."""
        timed_out = False
        with self._changed:
            if self._waiters < WAITERS_MAX:
                self._waiters += 1
                try:
                    timed_out = not self._changed.wait_for(
                        lambda: self._told != max(after, 0) or not self._open,
                        min(timeout_s, EVENTS_WAIT_MAX_S),
                    )
                finally:
                    self._waiters -= 1
        return self.read(after, limit=limit), timed_out

    def release_waiters(self) -> None:
        """Answer everybody who waits, now and from now on: the station is about to end."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def close(self) -> None:
        """Write what is left and let go of the files. Events that come later are told from memory only."""
        self.release_waiters()
        self._flush()
        with self._disk:
            self._segments.close()

    def _flush(self) -> None:
        """Write what is not written. Who finds somebody writing leaves it to them: they look again."""
        while self._disk.acquire(blocking=False):
            pending = self._unwritten()
            batch, failure = pending[:BATCH], None
            try:
                self._segments.append(batch)
            except OSError as error:
                failure = error
                batch = pending  # told all the same, and never to be given again
                self._segments.raise_ceiling(batch[-1].cursor)
            finally:
                self._disk.release()
            self._tell(batch, failure)
            if failure is not None or not self._unwritten():
                return

    def _unwritten(self) -> list[EventAnswer]:
        with self._changed:
            return [event for event in self._memory if event.cursor > self._segments.last]

    def _tell(self, batch: list[EventAnswer], failure: OSError | None) -> None:
        with self._changed:
            if batch:
                self._told = max(self._told, batch[-1].cursor)
            failed_before, self._failing = self._failing, failure is not None
            self._changed.notify_all()
        if failure is not None and not failed_before:
            log.error("journal not written folder=%s reason=%s", self._segments.folder, failure)
        elif failure is None and failed_before:
            log.warning("journal written again folder=%s", self._segments.folder)


def _plain(fact: Fact) -> Fact:
    """A fact that JSON can hold: text that is no UTF-8 is mended, a number that is none becomes text."""
    if isinstance(fact, float) and not math.isfinite(fact):
        return str(fact)
    if fact is None or isinstance(fact, bool | int | float):
        return fact
    return str(fact)[:TEXT_MAX].encode("utf-8", "replace").decode()
