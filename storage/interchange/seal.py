"""`manifest.json` of an export: which files belong to it, with their sha256. Written last, so it is the seal.

A folder with `_gymnastd` or `_unfinished` and without manifest.json is an export that was broken off. A
folder with neither is a dataset of others.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from robot_bridge.conventions import BRIDGE_V2
from robot_bridge.station.durable import replace_file, sync_folder
from storage.interchange.errors import DatasetChanged, DatasetInvalid, DatasetUnsealed
from storage.interchange.record import SIDE_FOLDER
from storage.interchange.writer import UNFINISHED, begun

MANIFEST: Final = "manifest.json"
LEFT_OUT: Final = (f"{UNFINISHED}/", f".{MANIFEST}")  # what is on its way out
SCHEMA: Final = "gymnastd-export/1"
CONVENTIONS: Final = {
    "name": BRIDGE_V2,
    "action": "dx dy dz [m], droll dpitch dyaw [rad], gripper 0 closed .. 1 open; "
    "a delta about world axes and about the gripper, on the previous target",
    "state": "x y z [m], roll pitch yaw [rad] of R·D0ᵀ (0 when the gripper points down), gripper 0 .. 1",
    "euler": "fixed axes x, then y, then z",
    "time": "action t is executed at observation t and produces observation t + 1",
    "image": "RGB, uint8, rows from the top",
    "control_hz": 5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What an export says of itself. `places` tells where in the format each episode is: place to id."""

    format: str
    places: dict[str, str]


def seal(folder: Path, what: Seal, *, notes: Mapping[str, str], now: datetime) -> None:
    """Hash every file of a finished export and write manifest.json, whole or not at all.

    Every file, and every folder above it, is on disk before the manifest that names it, so a power cut leaves
    none that is not whole.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(LEFT_OUT):
            files[name] = {"sha256": _digest_on_disk(path), "bytes": path.stat().st_size}
    tree = {
        "schema": SCHEMA,
        "format": what.format,
        "exported_at": now.isoformat(),
        "conventions": CONVENTIONS,
        "notes": dict(notes),
        "episodes": len(what.places),
        "places": what.places,
        "files": files,
    }
    above = {path for name in files for path in (folder / name).parents if path.is_relative_to(folder)}
    for each in sorted(above, key=lambda path: (-len(path.parts), path)):
        sync_folder(each)
    text = json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False)
    replace_file(folder / MANIFEST, text.encode())


def is_ours(folder: Path) -> bool:
    """Whether gymnastd wrote this, whole or not."""
    return any((folder / name).exists() for name in (SIDE_FOLDER, UNFINISHED))


def unseal(folder: Path, *, expected: str, advance: Callable[[int, int], None] | None = None) -> Seal | None:
    """Check every file of an export against manifest.json; None where the dataset is not one of ours.

    Args:
        expected: the format that the reader reads.
        advance: is told how many files are checked, and how many there are.

    Raises:
        DatasetUnsealed: the export was broken off.
        DatasetChanged: a file is missing or another.
        DatasetInvalid: the manifest is none, or of another format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        if is_ours(folder):
            raise DatasetUnsealed(folder=folder, begun=begun(folder))
        return None
    tree = _tree(path)
    if tree["format"] != expected:
        raise DatasetInvalid(path=path, expected=f"format {expected}", found=str(tree["format"]))
    for count, (name, told) in enumerate(sorted(tree["files"].items()), start=1):
        _check(folder, name, told["sha256"])
        if advance is not None:
            advance(count, len(tree["files"]))
    return Seal(format=tree["format"], places=dict(tree["places"]))


def _tree(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_bytes())
        well = tree["schema"] == SCHEMA and all(
            isinstance(tree[key], kind) for key, kind in (("format", str), ("places", dict), ("files", dict))
        )
        well = well and all(isinstance(each["sha256"], str) for each in tree["files"].values())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetInvalid(path=path, expected=SCHEMA, found=str(error)) from error
    if not well:
        raise DatasetInvalid(path=path, expected=SCHEMA, found="another schema")
    found: dict[str, Any] = tree
    return found


def _check(folder: Path, name: str, sha256: str) -> None:
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise DatasetChanged(path=file, expected="files in the folder", found="one outside")
    if not file.is_file():
        raise DatasetChanged(path=file, expected=f"sha256 {sha256}", found="no such file")
    found = _digest(file)
    if found != sha256:
        raise DatasetChanged(path=file, expected=f"sha256 {sha256}", found=f"sha256 {found}")


def _digest_on_disk(path: Path) -> str:
    with path.open("rb") as opened:
        os.fsync(opened.fileno())
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
