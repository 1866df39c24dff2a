"""Moments at which the hand closes or opens around something: where a pixel decides how an episode ends.

Windows drawn evenly from whole episodes show them seldom, and a world model that has seen few drops what it
should hold. So these moments are a pool of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from daemon.learning.batch import Clip
from daemon.learning.world_model.latents import LatentClip, LatentClips

FRAMES = 15  # of a moment: a window of the nano model and a little room to shift it
BEFORE = 6  # of them, before the command changes
APART = 5  # steps between two changes that count as two
GRIPPER, HALF_OPEN = 6, 0.5  # its place in an action, and the command between closed and open


def grasps_of(latents: LatentClips, clips: Sequence[Clip], *, frames: int = FRAMES) -> LatentClips:
    """Parts of encoded episodes around every change of the gripper's command.

    Args:
        latents: of these clips, in the same order.
        frames: of each part, or as many as there are.
    """
    return LatentClips(
        tuple(
            _part(encoded, step, frames=frames)
            for encoded, clip in zip(latents.clips, clips, strict=True)
            for step in changes(clip.actions[:, GRIPPER])
        )
    )


def changes(gripper: torch.Tensor) -> list[int]:
    """Steps at which the command [T] crosses half open, those close to the one before left out."""
    closed = gripper < HALF_OPEN
    crossed = (closed[1:] != closed[:-1]).nonzero().squeeze(1) + 1
    found: list[int] = []
    for step in crossed.tolist():
        if not found or step - found[-1] >= APART:
            found.append(step)
    return found


def _part(clip: LatentClip, step: int, *, frames: int) -> LatentClip:
    """So many frames around a step, moved inwards at the ends of an episode."""
    end = min(len(clip.latents), max(0, step - BEFORE) + frames)
    return clip.part(max(0, end - frames), end)
