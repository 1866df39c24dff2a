"""Writing files so that a crash leaves the old one or the new one, never half of either."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, Final

from robot_bridge.errors import SpoolCorrupt

PUBLIC: Final = 0o644
PRIVATE: Final = 0o600


def sync_folder(folder: Path) -> None:
    """Make renames and removals inside a folder outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_synced(path: Path, content: bytes, *, mode: int = PUBLIC) -> None:
    """Write a file and wait until it is on disk; its name may still be a temporary one.

    It has `mode` (less what the umask forbids) from its first byte on.
    """
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes, *, mode: int = PUBLIC) -> None:
    """Replace a file in one step: temporary name, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.new")
    write_synced(temporary, content, mode=mode)
    temporary.replace(path)
    sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file for good; nothing happens when it is not there."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: Path, tree: dict[str, Any], *, mode: int = PUBLIC) -> None:
    """Replace a file by a JSON object."""
    replace_file(path, json.dumps(tree, sort_keys=True).encode(), mode=mode)


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file for good; half a line that a crash left behind goes first.

    Raises:
        OSError: the disk does not take it; the file is as it was.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = whole_lines(path.read_bytes())
        os.ftruncate(handle, size)
        try:
            written = os.pwrite(handle, line + b"\n", size)
            if written <= len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)


def whole_lines(content: bytes) -> int:
    """How many bytes of a file are whole lines."""
    return content.rfind(b"\n") + 1


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None when there is no file.

    Raises:
        SpoolCorrupt: the file is there and does not hold a JSON object.
    """
    try:
        tree = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as cause:
        raise SpoolCorrupt(path=path, reason=str(cause)) from cause
    if not isinstance(tree, dict):
        raise SpoolCorrupt(path=path, reason="not a JSON object")
    return tree
