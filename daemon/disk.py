"""Whether there is room to go on: asked before work is taken, so that a disk is not found full in it."""

import errno
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from robot_bridge.errors import SpoolDiskFull
from storage.blobs import OUT_OF_ROOM
from storage.errors import DiskFull

MB = 1_000_000
LOW = 3  # times the least free space: below it people are told, and have a while yet
NO_ROOM = OUT_OF_ROOM - {errno.EFBIG}  # one file too large is no full disk, and waiting does not help
SAID_OF_A_FULL_DISK = ("no space left on device", "disk is full", "disk quota exceeded")


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the file system that a folder is on, or will be."""
    absolute = folder.absolute()
    there = next(place for place in (absolute, *absolute.parents) if place.exists())
    return shutil.disk_usage(there).free


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskGuard:
    """Says when a folder's disk has less room than is wanted. `measure` gives the free bytes."""

    folder: Path
    min_free_mb: int
    measure: Callable[[Path], int] = free_bytes

    def shortage(self) -> str | None:
        """What is waited for, always in the same words; None while there is room."""
        if self.measure(self.folder) >= self.min_free_mb * MB:
            return None
        return (
            f"waiting for disk space: less than {self.min_free_mb} MB are free under {self.folder}; "
            "free some (`gymnastd gc`), it goes on by itself"
        )


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, comes from a disk without room.

    Libraries that write files in other languages, and SQLite, tell it in words only. A station whose disk is
    full says so in such words too, but that is another disk.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DiskFull) or (isinstance(seen, OSError) and seen.errno in NO_ROOM):
            return True
        if isinstance(seen, SpoolDiskFull):
            return False
        if any(words in str(seen).lower() for words in SAID_OF_A_FULL_DISK):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
