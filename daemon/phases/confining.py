"""How far an arm could be moved where an episode began, by the limits that it says were in force.

And what a world model is told of its moves: what was asked for, as far as these limits let it through.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daemon.learning.confines import UNCONFINED, Confines, let_through
from daemon.learning.errors import BadTensor
from robot_bridge.conventions import F32
from robot_bridge.episode import LIMITS_KEY, Episode
from robot_bridge.steps import StepArrays

log = logging.getLogger(__name__)


def told_of(episode: Episode, confines: Confines | None) -> Tensor:
    """The moves [T, 7] that a world model is told of an episode: what was asked for, so confined."""
    return let_through(torch.from_numpy(episode.steps.raw_action.copy()), confines)


def confines_of(episode: Episode) -> Confines | None:
    """What would be let through from the beginning on; None where the episode names no limits.

    Limits that cannot be read are told in the log and count as none.
    """
    manifest = episode.manifest
    stated = manifest.metadata.get(LIMITS_KEY)
    if stated is None:
        return None
    try:
        limits: dict[str, Any] = json.loads(stated)
        return Confines.around(
            _target(episode.steps),
            low=limits["box_low"],
            high=limits["box_high"],
            step=limits.get("step_xyz_max", UNCONFINED),
        )
    except (ValueError, TypeError, KeyError, BadTensor) as unreadable:
        log.warning("limits not readable episode=%s reason=%s", manifest.episode_id, unreadable)
        return None


def _target(steps: StepArrays) -> F32:
    """Where the arm was told to be at first, metres [3]; where it was, if nothing says that."""
    if steps.target_pose is None:
        return np.asarray(steps.state[0, :3])
    return np.asarray(steps.target_pose[0, :3] - steps.motion[0, :3])
