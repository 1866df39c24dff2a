"""Folders of raw BridgeData V2, as names: SCENE/TASK/NN/DATE/raw/traj_groupG/trajI and what lies in them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

FORMAT: Final = "bridge-raw"
CAMERA: Final = "images0"
OBSERVATIONS: Final = "obs_dict.pkl"
POLICY: Final = "policy_out.pkl"
AGENT: Final = "agent_data.pkl"
LANGUAGE: Final = "lang.txt"
DATE: Final = "%Y-%m-%d_%H-%M-%S"
PROMPT: Final = datetime(2021, 7, 23, tzinfo=UTC)  # pictures of recordings before lag by one step


def trajectory_folder(*, scene: str, task: str, at: datetime, number: int) -> str:
    """Where trajectory `number` of an export lies."""
    date = at.astimezone(UTC).strftime(DATE)
    return f"{plain(scene)}/{plain(task)}/00/{date}/raw/traj_group0/traj{number}"


def plain(name: str) -> str:
    """A name that can be a folder's; never one that begins with an underscore or a dot."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).lstrip("_.") or "unnamed"


def recorded_at(trajectory: Path) -> datetime | None:
    """When it was recorded, if a folder above says so."""
    for folder in trajectory.parents:
        try:
            return datetime.strptime(folder.name, DATE).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def picture_number(path: Path) -> int:
    """12 of im_12.jpg; -1 where there is none."""
    digits = path.stem.removeprefix("im_")
    return int(digits) if digits.isdecimal() else -1
