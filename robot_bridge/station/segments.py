"""The journal's files: lines in segments, and a ceiling over the cursors. Who may read what is in `journal`.

    journal/000000000001.jsonl   one event a line; the name is the cursor of its first line, and from there
    journal/000000000412.jsonl   cursors rise by one; the oldest segments are dropped, the newest is written
    journal/ceiling              the highest cursor that was given while the disk took no line

A line that a crash cut short is cut off at the next start: nobody was told of it.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from robot_bridge.events import EventAnswer
from robot_bridge.station.durable import sync_folder

log = logging.getLogger(__name__)

CEILING_DIGITS: Final = 20


class Segments:
    """The journal's files. One thread writes at a time; any may read."""

    def __init__(self, folder: Path, *, segment_bytes: int, segments_kept: int) -> None:
        self.folder = folder
        self._bytes, self._kept = segment_bytes, segments_kept
        folder.mkdir(parents=True, exist_ok=True)
        self._file: int | None = None
        self._size = 0
        self._closed = False
        self._firsts = sorted(int(path.stem) for path in folder.glob("*.jsonl") if path.stem.isdigit())
        self._first = 0  # of the segment that is being written
        recovered = self._recover()
        self._ceiling = _Ceiling(folder / "ceiling")
        self.last = max(recovered, self._ceiling.value)
        if self._firsts and self.last == recovered:
            self._reopen(self._firsts[-1])

    @property
    def oldest(self) -> int:
        """The first cursor that is on disk, 0 when none is."""
        return self._firsts[0] if self._firsts else 0

    def append(self, events: list[EventAnswer]) -> None:
        """Write the events up to the first gap in their cursors; a gap begins a new segment.

        Raises:
            OSError: the disk does not take them; nothing of them counts as written.
        """
        if not events:
            return
        if self._closed:
            raise OSError("the journal is closed")
        if self._file is None or self._size >= self._bytes or events[0].cursor != self.last + 1:
            self._begin(events[0].cursor)
        run = [event for place, event in enumerate(events) if event.cursor == events[0].cursor + place]
        self._write(b"".join(event.model_dump_json().encode() + b"\n" for event in run))
        if self._first not in self._firsts[-1:]:
            self._firsts.append(self._first)
        self.last = run[-1].cursor
        self._drop_oldest()

    def read(self, after: int, *, limit: int) -> list[EventAnswer]:
        """Events above `after`, all of the first segment that holds one."""
        firsts = list(self._firsts)
        for first, following in zip(firsts, [*firsts[1:], 0], strict=True):
            if following and following <= after + 1:
                continue
            try:
                lines = self._path(first).read_bytes().split(b"\n")[:-1]
            except FileNotFoundError:  # dropped a moment ago
                continue
            wanted = lines[max(after + 1 - first, 0) :][:limit]
            found = [event for line in wanted if (event := _event_of(line)) is not None]
            if found:
                return found
        return []

    def newest(self, kind: str) -> EventAnswer | None:
        """The last event of a kind on disk."""
        mark = b'"kind":"%s"' % kind.encode()
        for first in reversed(list(self._firsts)):
            with suppress(FileNotFoundError):  # dropped a moment ago
                for line in reversed(self._path(first).read_bytes().split(b"\n")[:-1]):
                    event = _event_of(line) if mark in line else None
                    if event is not None and event.kind == kind:
                        return event
        return None

    def raise_ceiling(self, cursor: int) -> None:
        self._ceiling.rise_to(cursor)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._ceiling.close()
        self._file, self._closed = None, True

    def _path(self, first: int) -> Path:
        return self.folder / f"{first:012d}.jsonl"

    def _recover(self) -> int:
        """Cut off what a crash left half written; gives the last cursor on disk."""
        while self._firsts:
            path = self._path(self._firsts[-1])
            content = path.read_bytes()
            lines = content.split(b"\n")[:-1]
            while lines and _event_of(lines[-1]) is None:
                lines.pop()
            kept = sum(len(line) + 1 for line in lines)
            if kept < len(content):
                log.warning("journal cut file=%s bytes=%d", path, len(content) - kept)
                os.truncate(path, kept)
            if lines:
                return self._firsts[-1] + len(lines) - 1
            path.unlink()
            self._firsts.pop()
        return 0

    def _reopen(self, first: int) -> None:
        self._file = os.open(self._path(first), os.O_RDWR | os.O_CLOEXEC)
        self._first, self._size = first, os.fstat(self._file).st_size

    def _begin(self, first: int) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
            if self._size == 0:  # never took a line
                self._path(self._first).unlink(missing_ok=True)
        self._file = os.open(self._path(first), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._first, self._size = first, 0
        sync_folder(self.folder)

    def _write(self, lines: bytes) -> None:
        handle = self._file
        if handle is None:
            raise OSError("no segment is open")
        os.ftruncate(handle, self._size)  # half a line of an earlier try
        written = 0
        while written < len(lines):
            written += os.pwrite(handle, lines[written:], self._size + written)
        os.fdatasync(handle)
        self._size += len(lines)

    def _drop_oldest(self) -> None:
        while len(self._firsts) > self._kept:
            self._path(self._firsts[0]).unlink(missing_ok=True)
            self._firsts.pop(0)


class _Ceiling:
    """A number on disk that rises in place: its file has its final size from the beginning."""

    def __init__(self, path: Path) -> None:
        self._file: int | None = None
        self.value = 0
        with suppress(OSError):  # a disk that is full already at the start
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            digits = os.pread(self._file, CEILING_DIGITS, 0)
            self.value = int(digits) if digits.isdigit() else 0
            self.rise_to(self.value)

    def rise_to(self, value: int) -> None:
        self.value = max(self.value, value)
        if self._file is not None:
            with suppress(OSError):
                os.pwrite(self._file, b"%0*d" % (CEILING_DIGITS, self.value), 0)
                os.fdatasync(self._file)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None


def _event_of(line: bytes) -> EventAnswer | None:
    try:
        return EventAnswer.model_validate_json(line)
    except ValidationError:
        return None
