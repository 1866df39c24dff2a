"""A trajectory is whole or it is none: every array has its T rows, its kind and finite numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from robot_bridge.autoeval.errors import DatasetMalformed
from tests.robot_bridge.autoeval.rollouts import Rollout

ROLLOUT = Rollout.random(3)


def test_a_whole_trajectory_counts_its_actions() -> None:
    assert ROLLOUT.trajectory().count == 3


@pytest.mark.parametrize(
    ("changes", "thing"),
    [
        ({"images": ROLLOUT.frames}, "images of trajectory 4"),
        ({"images": ROLLOUT.frames[1:].astype(np.float32)}, "images"),
        ({"images": ROLLOUT.frames[1:, :128]}, "images"),
        ({"proprio": ROLLOUT.proprio}, "proprio"),
        ({"proprio": ROLLOUT.proprio[1:, :7]}, "proprio"),
        ({"proprio": ROLLOUT.proprio[1:].astype(np.float64)}, "proprio"),
        ({"action": ROLLOUT.action[:, :6]}, "action"),
        (
            {"action": ROLLOUT.action[:0], "proprio": ROLLOUT.proprio[:0], "images": ROLLOUT.frames[:0]},
            "images",
        ),
        ({"action": np.full((3, 7), np.nan, np.float32)}, "trajectory 4"),
        ({"proprio": np.full((3, 8), np.inf, np.float32)}, "trajectory 4"),
        ({"proprio": None}, "proprio"),
    ],
    ids=range(11),
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], thing: str) -> None:
    with pytest.raises(DatasetMalformed, match=thing):
        ROLLOUT.trajectory(4, **changes)
