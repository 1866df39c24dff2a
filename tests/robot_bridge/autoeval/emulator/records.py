"""Reading the emulator's recordings in tests, with the adapter's own interpreter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from robot_bridge.autoeval.pickle_machine import Array, Machine, Stub


def plain(value: Any) -> Any:
    """What an interpreted pickle holds, with arrays as arrays and objects as their attributes."""
    if isinstance(value, Array):
        return value.value
    if isinstance(value, Stub):
        return {"class": str(value.name), **{name: plain(part) for name, part in value.state.items()}}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return value


def trajectory(file: Path) -> dict[str, Any]:
    return dict(plain(Machine().run(file.read_bytes())))


def the_run(root: Path) -> Path:
    """The folder of the only run under an emulator's root."""
    (folder,) = (root / "tmp").iterdir()
    return folder


def metadata(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "metadata.json").read_text()))


def actions(record: dict[str, Any]) -> np.ndarray:
    return np.stack(record["action"])
