"""Writing files so that a crash leaves the old one or the new one, never half of either."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from robot_bridge.errors import SpoolCorrupt


def sync_folder(folder: Path) -> None:
    """Make renames and removals inside a folder outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on disk; its name may still be a temporary one."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file in one step: temporary name, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.new")
    write_synced(temporary, content)
    temporary.replace(path)
    sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file for good; nothing happens when it is not there."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: Path, tree: dict[str, Any]) -> None:
    replace_file(path, json.dumps(tree, sort_keys=True).encode())


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
