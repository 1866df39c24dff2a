"""Builders of small, valid things for storage's tests; every part of them can be overridden."""

from collections.abc import Callable
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
from storage.db import Database
from storage.episodes import Provenance, commit
from storage.iterations import request_iteration
from storage.tables import EpisodeRow, IterationRow

START = datetime(2026, 1, 1, 11, 0, 0, tzinfo=UTC)


def some_steps(steps: int, *, seed: int) -> StepArrays:
    random = np.random.default_rng(seed)
    instants = np.arange(steps + 1, dtype=np.float64) / 5.0

    def numbers(rows: int, width: int) -> np.ndarray:
        return random.normal(scale=0.01, size=(rows, width)).astype(np.float32)

    return StepArrays(
        raw_action=numbers(steps, 7),
        executed_action=numbers(steps, 7),
        state=numbers(steps + 1, 7),
        qpos=numbers(steps + 1, 8),
        effort_mA=numbers(steps + 1, 7),
        target_pose=numbers(steps, 7),
        t_obs=instants,
        t_cmd=instants[:-1],
        infer_ms=np.full(steps, 12.5, np.float32),
        flags=np.zeros(steps, np.uint32),
    )


def some_label(success: bool | None, source: str = "sim_predicate", at: datetime = START) -> ManifestLabel:
    return ManifestLabel(success=success, source=source, judge="predicate/1", at=at)


def build_episode(
    number: int = 1,
    *,
    steps: int = 3,
    task_id: str = "open_drawer",
    station_id: str = "cell-1",
    labels: tuple[ManifestLabel, ...] | None = None,
    policy_eval: bool = True,
    world_model: bool = True,
) -> Episode:
    """Episode `number`: the same number gives the same bytes, another number another episode."""
    random = np.random.default_rng(number)
    header = EpisodeHeader(
        episode_id=str(UUID(int=number)),
        station_id=station_id,
        task_id=task_id,
        instruction=task_id.replace("_", " "),
        mode="stepped",
        policy=PolicyRef(name="scripted"),
        transform_id="test/1",
        control_hz=5.0,
        outcome="completed",
        labels=(some_label(True),) if labels is None else labels,
        valid_for=ValidFor(policy_eval=policy_eval, world_model=world_model),
        started_at=START,
        ended_at=START + timedelta(seconds=steps / 5),
    )
    images = random.integers(0, 256, size=(steps + 1, 16, 16, 3), dtype=np.uint8)
    return assemble(header, steps=some_steps(steps, seed=number), frames=FrameBlob.of_images(images))


@pytest.fixture
def an_episode() -> Callable[..., Episode]:
    return build_episode


@pytest.fixture
def a_label() -> Callable[..., ManifestLabel]:
    return some_label


@pytest.fixture
def an_iteration(database: Database, now: datetime) -> Callable[..., IterationRow]:
    """Request one more iteration and return its row."""

    def request(**spec: object) -> IterationRow:
        with database.write() as session:
            return request_iteration(session, spec=spec, idempotency_key=None, now=now)[0]

    return request


@pytest.fixture
def committed(database: Database, blobs, now: datetime) -> Callable[..., EpisodeRow]:
    """Commit an episode of the given provenance at `now`, or `after_s` seconds later."""

    def keep(episode: Episode, *, after_s: float = 0.0, **provenance: object) -> EpisodeRow:
        provenance.setdefault("origin", "collect")
        with database.write() as session:
            row, _ = commit(
                session,
                blobs,
                episode,
                provenance=Provenance(**provenance),
                now=now + timedelta(seconds=after_s),
            )
            return row

    return keep
