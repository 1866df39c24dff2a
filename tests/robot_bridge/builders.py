"""Small valid things of the robot side, each overridable; and a clock that stands until it is moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

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
from robot_bridge.protocol import EpisodeRequest

NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


class Clock:
    """Monotonic seconds and a wall clock that move only when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)


def some_steps(count: int = 4, *, seed: int = 0, **changes: Any) -> StepArrays:
    """Arrays of `count` steps with numbers that differ everywhere."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    arrays = {
        "raw_action": numbers(count, 7),
        "executed_action": numbers(count, 7),
        "predicted_executed": numbers(count, 7),
        "achieved_action": numbers(count, 7),
        "native_action": numbers(count, 7),
        "native_state": numbers(count + 1, 8),
        "state": numbers(count + 1, 7),
        "qpos": numbers(count + 1, 8),
        "effort_mA": numbers(count + 1, 7),
        "target_pose": numbers(count, 7),
        "t_obs": np.arange(count + 1) * 0.2,
        "t_cmd": np.arange(count) * 0.2 + 0.01,
        "infer_ms": numbers(count) ** 2,
        "flags": np.arange(count, dtype=np.uint32),
    }
    return StepArrays(**{**arrays, **changes})


def some_images(count: int = 5, *, height: int = 12, width: int = 16, seed: int = 0) -> np.ndarray:
    """Smooth pictures uint8 [count, height, width, 3], all different, that JPEG keeps well."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 255, (count, 2, 2, 3))
    down, right = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    top = corners[:, None, None, 0, 0] * (1 - right) + corners[:, None, None, 0, 1] * right
    bottom = corners[:, None, None, 1, 0] * (1 - right) + corners[:, None, None, 1, 1] * right
    return np.asarray(top * (1 - down) + bottom * down).round().astype(np.uint8)


def a_label(success: bool | None = True, **changes: Any) -> ManifestLabel:
    return ManifestLabel(
        **{"success": success, "source": "sim_predicate", "judge": "toy", "at": NOON, **changes}
    )


def a_header(**changes: Any) -> EpisodeHeader:
    fields: dict[str, Any] = {
        "episode_id": "episode-1",
        "station_id": "bench",
        "task_id": "open_drawer",
        "instruction": "open the drawer",
        "mode": "stepped",
        "policy": PolicyRef(name="script"),
        "transform_id": "none",
        "control_hz": 5.0,
        "outcome": "completed",
        "labels": (a_label(),),
        "valid_for": ValidFor(policy_eval=True, world_model=True),
        "started_at": NOON,
        "ended_at": NOON + timedelta(seconds=8),
    }
    return EpisodeHeader(**{**fields, **changes})


def an_episode(count: int = 4, *, seed: int = 0, **changes: Any) -> Episode:
    frames = FrameBlob.of_images(some_images(count + 1, seed=seed))
    return assemble(a_header(**changes), steps=some_steps(count, seed=seed), frames=frames)


def a_request(**changes: Any) -> EpisodeRequest:
    fields = {"task_id": "open_drawer", "max_steps": 6, "policy": PolicyRef(name="script"), "seed": 3}
    return EpisodeRequest(**{**fields, **changes})


def forward(count: int = 1, metres: float = 0.01) -> list[list[float]]:
    """Actions that move `metres` along x, gripper open."""
    return [[metres, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0] for _ in range(count)]


def with_array(steps: StepArrays, name: str, change: Callable[[np.ndarray], np.ndarray]) -> StepArrays:
    """The same steps with one array changed."""
    return replace(steps, **{name: change(getattr(steps, name).copy())})
