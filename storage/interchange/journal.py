"""The journal of an export that is not finished: what it is to be, and which episodes of it are done.

`_unfinished` in the target holds it: plan.json, written once and whole before anything else, and done.jsonl,
a line for each episode that is down, with a digest of the line and of its parts. A line is believed only with
a digest that fits, so neither half a file nor half a line counts. It goes once manifest.json is there.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from robot_bridge.station.durable import PUBLIC, replace_file, sync_folder
from storage.interchange.errors import ExportBusy, ExportDiffers, TargetNotEmpty
from storage.interchange.plan import Plan, read_plan
from storage.interchange.query import Standing
from storage.interchange.seal import MANIFEST
from storage.interchange.writer import PLAN, UNFINISHED, Part, Written, begun, staged

DONE: Final = "done.jsonl"
LOCK: Final = "lock"
NEW_PLAN: Final = f".{PLAN}.new"
BEFORE_THE_PLAN: Final = {LOCK, NEW_PLAN}  # all that there can be while there is no plan
UNLOCKABLE: Final = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # a file system that has no locks
TRIES: Final = 3  # to open the lock, while others that have ended take its folder away
CHUNK_BYTES: Final = 1 << 20


@contextmanager
def opened(folder: Path) -> Iterator[Journal]:
    """The journal of a folder that is empty, is not there yet, or holds an export that was broken off.

    On a file system without locks nobody is kept from writing into it at the same time.

    Raises:
        TargetNotEmpty: it holds something else; a finished export too.
        ExportBusy: another process writes into it.
    """
    try:
        descriptor = _open_lock(folder)
        try:
            _lock(descriptor, folder)
            _require_room(folder)  # again: another process may have ended just now
            yield Journal(folder)
        finally:
            os.close(descriptor)
    finally:
        _tidy(folder)


def _open_lock(folder: Path) -> int:
    for _ in range(TRIES):
        _require_room(folder)
        with suppress(FileNotFoundError, FileExistsError):  # another process has ended, and took it away
            (folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
            return _unfollowed(folder / UNFINISHED / LOCK, os.O_RDWR | os.O_CREAT)
    raise ExportBusy(folder=folder)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ExportBusy(folder=folder) from None
    except OSError as error:
        if error.errno not in UNLOCKABLE:
            raise


def _unfollowed(path: str | Path, flags: int) -> int:
    """Open a file, also for `open`; a link is an error, not a way elsewhere."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, PUBLIC)


def _require_room(folder: Path) -> None:
    own = folder / UNFINISHED
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or own.is_symlink() or (own.exists() and not own.is_dir()):
        raise TargetNotEmpty(folder=folder)
    inside = [*own.iterdir()] if own.is_dir() else []
    if any(path.is_symlink() for path in inside):
        raise TargetNotEmpty(folder=folder)
    others = {path.name for path in folder.iterdir()} - {UNFINISHED}
    others |= {path.name for path in inside} - BEFORE_THE_PLAN
    if others and not begun(folder):
        raise TargetNotEmpty(folder=folder)


def _tidy(folder: Path) -> None:
    """Let the lock of a finished export go, as far as that can be done. Who gets it still is refused.

    It is not open here any more: where it is a network's file, an open one would keep the folder.
    """
    own = folder / UNFINISHED
    with suppress(OSError):
        if (folder / MANIFEST).is_file() and not own.is_symlink():
            if [path.name for path in own.iterdir()] == [LOCK]:
                (own / LOCK).unlink()
            own.rmdir()


class Journal:
    """What an export in `folder` is to be, and how far it is. One process at a time has it: see `opened`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._own = folder, folder / UNFINISHED

    @property
    def sealed(self) -> bool:
        """Whether the export is whole, and only this journal is left to go."""
        return (self._folder / MANIFEST).is_file()

    def settle(self, plan: Plan, *, standing: Callable[[], Iterable[Standing]]) -> Plan:
        """The plan to follow: that of the export which was broken off, or this one, which is written down.

        Args:
            standing: tells how every episode stands now; asked where an export was broken off.

        Raises:
            ExportDiffers: what was begun here is another export, or its episodes have changed since.
            TargetNotEmpty: as ExportDiffers, and what was begun here is finished.
        """
        path = self._own / PLAN
        if not path.is_file():
            replace_file(path, json.dumps(plan.tree()).encode())
            sync_folder(self._folder)
            return plan
        found, fault = read_plan(path)
        differences = [fault] if found is None else found.differences(plan, standing=standing)
        if found is not None and not differences:
            return found
        if not self.sealed:
            raise ExportDiffers(folder=self._folder, differences=differences)
        if found is not None:
            self.remove(found)
        raise TargetNotEmpty(folder=self._folder)

    def done(self, plan: Plan, *, checked: Callable[[int, int], None]) -> list[Written]:
        """The episodes that are down, from the first to the last that is whole; later ones are forgotten.

        Args:
            checked: is told how many are looked at, and how many may be there.

        Raises:
            OSError: a file cannot be read; nothing is forgotten.
        """
        try:
            descriptor = _unfollowed(self._own / DONE, os.O_RDWR)
        except FileNotFoundError:
            return []
        found: list[Written] = []
        size = 0
        with os.fdopen(descriptor, "r+b") as file:
            lines = file.read().split(b"\n")[:-1]  # what comes last is no line
            for standing, line in zip(plan.wanted.episodes, lines, strict=False):
                written = self._believed(line, standing.episode_id)
                if written is None:
                    break
                found.append(written)
                size += len(line) + 1
                checked(len(found), len(lines))
            file.truncate(size)
        return found

    def note(self, written: Written) -> None:
        """Write down that an episode is, for good."""
        tree = asdict(written)
        line = json.dumps({**tree, "sha256": self._digest(tree, written.parts)})
        with open(self._own / DONE, "ab", opener=_unfollowed) as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self, plan: Plan) -> None:
        """Forget it all but what is none of ours; the plan goes last, so that this can be done again."""
        ours = {DONE, NEW_PLAN, *(staged(each.episode_id) for each in plan.wanted.episodes)}
        for path in self._own.iterdir():
            if path.name in ours and not path.is_dir():
                path.unlink()
        (self._own / PLAN).unlink()

    def _believed(self, line: bytes, episode_id: str) -> Written | None:
        try:
            tree = json.loads(line)
            told = tree.pop("sha256")
            parts = tuple(Part(**each) for each in tree["parts"])
            written = Written(**{**tree, "parts": parts})
            fits = written.episode_id == episode_id and self._has(parts)
            return written if fits and self._digest(tree, parts) == told else None
        except (ValueError, TypeError, KeyError, AttributeError, FileNotFoundError, NotADirectoryError):
            return None

    def _has(self, parts: Iterable[Part]) -> bool:
        """Whether all parts lie in the folder, links followed."""
        folder = os.path.realpath(self._folder)
        return all(Path(os.path.realpath(self._folder / part.name)).is_relative_to(folder) for part in parts)

    def _digest(self, tree: dict[str, Any], parts: tuple[Part, ...]) -> str:
        """Of a line but for the digest itself, and of what it tells of."""
        content = digest_of(self._folder, parts)
        return hashlib.sha256(f"{json.dumps(tree)}\0{content}".encode()).hexdigest()


def digest_of(folder: Path, parts: tuple[Part, ...]) -> str:
    """sha256 over names, sizes and content of parts.

    Raises:
        OSError: one is not there, or cannot be read.
    """
    digest = hashlib.sha256()
    for part in parts:
        for file in _files(folder / part.name):
            end = file.stat().st_size if part.end is None else part.end
            digest.update(f"{file.relative_to(folder).as_posix()}\0{end - part.begin}\0".encode())
            with file.open("rb") as opened_file:
                opened_file.seek(part.begin)
                left = end - part.begin
                while left > 0 and (chunk := opened_file.read(min(left, CHUNK_BYTES))):
                    digest.update(chunk)
                    left -= len(chunk)
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """A file, or all that are in a folder."""

    def refuse(error: OSError) -> None:
        raise error

    if not path.is_dir():
        return [path]
    return sorted(Path(top) / name for top, _, names in os.walk(path, onerror=refuse) for name in names)
