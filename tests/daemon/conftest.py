"""Builders for the daemon's tests: small valid episodes, and a worker whose phases take no time."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import pytest

from robot_bridge.episode import (
    Episode,
    EpisodeHeader,
    ManifestLabel,
    PolicyRef,
    StepArrays,
    ValidFor,
    assemble,
)
from robot_bridge.frames import FrameBlob

START = datetime(2026, 1, 1, 11, 0, 0, tzinfo=UTC)


def build_episode(
    number: int = 1,
    *,
    success: bool | None = True,
    task_id: str = "open_drawer",
    steps: int = 3,
    cut: Sequence[int] = (),
) -> Episode:
    """Episode `number`, always the same bytes; `success` None leaves it without a label.

    `cut` are the flags of its first steps.
    """
    random = np.random.default_rng(number)
    instants = np.arange(steps + 1, dtype=np.float64) / 5.0

    def numbers(rows: int, width: int) -> np.ndarray:
        return random.normal(scale=0.01, size=(rows, width)).astype(np.float32)

    label = ManifestLabel(success=success, source="sim_predicate", judge="predicate/1", at=START)
    header = EpisodeHeader(
        episode_id=str(UUID(int=number)),
        station_id="cell-1",
        task_id=task_id,
        instruction=task_id.replace("_", " "),
        mode="stepped",
        policy=PolicyRef(name="scripted"),
        transform_id="test/1",
        control_hz=5.0,
        outcome="completed",
        labels=() if success is None else (label,),
        valid_for=ValidFor(policy_eval=True, world_model=True),
        started_at=START,
        ended_at=START + timedelta(seconds=steps / 5),
    )
    arrays = StepArrays(
        raw_action=numbers(steps, 7),
        executed_action=numbers(steps, 7),
        state=numbers(steps + 1, 7),
        qpos=numbers(steps + 1, 8),
        effort_mA=numbers(steps + 1, 7),
        target_pose=numbers(steps, 7),
        t_obs=instants,
        t_cmd=instants[:-1],
        infer_ms=np.full(steps, 12.5, np.float32),
        flags=np.array([*cut, *[0] * (steps - len(cut))], np.uint32),
    )
    images = np.full((steps + 1, 32, 32, 3), 90, np.uint8)
    for index in range(steps + 1):
        images[index, 8:16, 4 * index : 4 * index + 8] = 220
    return assemble(header, steps=arrays, frames=FrameBlob.of_images(images))


@pytest.fixture
def an_episode() -> Callable[..., Episode]:
    return build_episode
