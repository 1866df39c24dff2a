"""Which of our recorded attempts is which published trajectory: by their actions, letter by letter.

AutoEval logs the very numbers that our gateway sent, so equal float32 sequences are the same attempt. Where
two attempts have equal actions, and against recordings that somebody else fed to the gateway, what was seen
is compared too: dataset element t is what the gateway saw at t + 1. What becomes of a match is in `join`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from robot_bridge.autoeval.attempt import Attempt
from robot_bridge.autoeval.trajectory import Trajectory
from robot_bridge.conventions import IMAGE_SIZE
from robot_bridge.frames import decode_jpeg

FRAME_TOLERANCE: Final = 8.0  # grey levels, mean of one picture: our JPEG against the picture itself
PROPRIO_TOLERANCE: Final = 1e-3  # metres and radians; both sides log the same float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An attempt with the actions of a trajectory. `agrees` says whether it also saw what is published."""

    attempt: Attempt
    agrees: bool
    difference: float


def best_match(trajectory: Trajectory, attempts: Iterable[Attempt]) -> Match | None:
    """The attempt that is this trajectory: agreeing ones first, then the closest, then the earliest."""
    matches = [_compared(attempt, trajectory) for attempt in attempts if _same_actions(attempt, trajectory)]
    return min(matches, key=lambda m: (not m.agrees, m.difference, m.attempt.index), default=None)


def _same_actions(attempt: Attempt, trajectory: Trajectory) -> bool:
    return np.array_equal(attempt.sent_action, trajectory.action)


def _compared(attempt: Attempt, trajectory: Trajectory) -> Match:
    """How far what was seen is apart, as a share of what is tolerated; nothing to compare agrees."""
    frames, proprio = 0.0, 0.0
    if trajectory.count > 1:
        frames = max(_frame_differences(attempt, trajectory)) / FRAME_TOLERANCE
        apart = np.abs(attempt.proprio[1:].astype(np.float64) - trajectory.proprio[:-1])
        proprio = float(apart.max()) / PROPRIO_TOLERANCE
    return Match(attempt=attempt, agrees=max(frames, proprio) <= 1.0, difference=frames + proprio)


def _frame_differences(attempt: Attempt, trajectory: Trajectory) -> list[float]:
    pairs = zip(attempt.jpegs[1:], trajectory.images[:-1], strict=True)
    return [
        float(np.abs(decode_jpeg(jpeg, width=IMAGE_SIZE, height=IMAGE_SIZE).astype(np.int16) - image).mean())
        for jpeg, image in pairs
    ]
