"""Episodes of datasets that others wrote: what they do not tell is left out or said to be absent.

Such an episode teaches a world model and never counts for a policy. Its id comes from its content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

import numpy as np

from robot_bridge.conventions import ACTION_DIMS, CONTROL_HZ, PROPRIO_DIMS
from robot_bridge.episode import EpisodeHeader, PolicyRef, StepArrays, ValidFor, assemble
from robot_bridge.frames import FrameBlob
from storage.interchange.errors import DatasetInvalid
from storage.interchange.record import F32, SOURCE, Record

NAMESPACE: Final = UUID("d5a2a7ce-6f0c-5b0c-8e0e-7a3ee1a84b11")  # of ids that come from content
UNKNOWN_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
UNLABELLED: Final = "unlabelled"
INSTRUCTION_MAX: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an episode of others comes from: the format, the file to name in errors, its content's digest."""

    format: str
    path: Path
    digest: str

    @property
    def episode_id(self) -> str:
        return str(uuid5(NAMESPACE, f"{self.format}:{self.digest}"))


def foreign_record(
    origin: Origin,
    *,
    actions: F32,
    states: F32,
    frames: FrameBlob,
    instruction: str,
    valid: bool = True,
) -> Record:
    """An episode of T actions and T + 1 observations from what any format tells.

    Raises:
        DatasetInvalid: the counts do not fit, a number is not finite, or a row has another width.
    """
    steps = len(actions)
    check_rows(origin.path, "action", actions, width=ACTION_DIMS)
    check_rows(origin.path, "state", states, width=PROPRIO_DIMS)
    if steps < 1 or len(states) != steps + 1 or len(frames) != steps + 1:
        found = f"{steps} actions, {len(states)} states, {len(frames)} pictures"
        raise DatasetInvalid(path=origin.path, expected="T >= 1 actions, T + 1 of the others", found=found)
    header = EpisodeHeader(
        episode_id=origin.episode_id,
        station_id=origin.format,
        task_id=task_of(instruction),
        instruction=instruction[:INSTRUCTION_MAX],
        mode="imported",
        policy=PolicyRef(name="unknown"),
        transform_id=f"{origin.format}/1",
        control_hz=CONTROL_HZ,
        outcome="completed",
        valid_for=ValidFor(policy_eval=False, world_model=valid),
        started_at=UNKNOWN_TIME,
        ended_at=UNKNOWN_TIME,
        metadata={SOURCE: origin.digest},
    )
    return Record(episode=assemble(header, steps=_steps(actions, states), frames=frames))


def check_rows(path: Path, thing: str, rows: F32, *, width: int) -> None:
    """Refuse rows of another width and numbers that are not finite.

    Raises:
        DatasetInvalid: one of the two.
    """
    if rows.ndim != 2 or rows.shape[1] != width:
        found = f"shape {list(rows.shape)}"
        raise DatasetInvalid(path=path, expected=f"{thing} of {width} numbers", found=found)
    if not np.isfinite(rows).all():
        row = int(np.argwhere(~np.isfinite(rows))[0][0])
        raise DatasetInvalid(
            path=path, expected=f"finite numbers in {thing}", found=f"nan or inf in row {row}"
        )


def task_of(instruction: str) -> str:
    """A task id made from what the robot was told."""
    return re.sub(r"[^a-z0-9]+", "_", instruction.lower()).strip("_")[:100] or UNLABELLED


def _steps(actions: F32, states: F32) -> StepArrays:
    instants = np.arange(len(states), dtype=np.float64) / CONTROL_HZ
    rows = np.ascontiguousarray(actions, dtype=np.float32)
    return StepArrays(
        raw_action=rows,
        executed_action=rows,
        state=np.ascontiguousarray(states, dtype=np.float32),
        t_obs=instants,
        t_cmd=instants[:-1],
        infer_ms=np.zeros(len(rows), np.float32),
        flags=np.zeros(len(rows), np.uint32),
    )
