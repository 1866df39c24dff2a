"""Pictures that show the subject of a task half in one place and half in another, and what a judge is to say.

Where imagination cannot tell whether a grasp held, it mixes what may happen: the eggplant stands faintly in
the basket and faintly where it began. Such a picture is as much of a success as the share of the eggplant
that is where it should be, and near one half nobody can tell. No camera takes it, so it is made: of a success
and the first frame of its episode, inside the places where either shows the subject. The camera stands still.

Source: Zhang et al. 2018 (arXiv:1710.09412) for mixtures of pictures with mixtures of labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from daemon.learning.batch import Clip
from daemon.learning.reward.training import HALF
from daemon.pretrain.clip_files import marks_of, subject_of

EVERY = 2  # frames of a success: neighbours are alike
LOST_EVERY = 3  # frames of an episode without its subject
DOUBT = 0.25  # nobody can tell where the share lies so close to one half


@dataclass(frozen=True, slots=True, kw_only=True)
class Ghosts:
    """Pictures uint8 [M, 3, H, W]; of each whether it is a success, and whether nobody can tell, bool [M]."""

    frames: Tensor
    success: Tensor
    doubtful: Tensor


def ghosts_of(clip: Clip, *, generator: torch.Generator) -> Ghosts:
    """One of every second success of an episode, with shares drawn evenly between 0 and 1."""
    rows = marks_of(clip).nonzero()[:, 0][::EVERY].tolist()
    shares = torch.rand(len(rows), generator=generator)  # of the subject that is where it should be
    frames = [mixed(clip, row, share=share) for row, share in zip(rows, shares.tolist(), strict=True)]
    return Ghosts(
        frames=torch.stack(frames) if frames else clip.frames[:0],
        success=shares > HALF,
        doubtful=(shares - HALF).abs() < DOUBT,
    )


def lost(clip: Clip) -> Ghosts:
    """Every third frame of an episode whose pictures do not show its subject at all: nobody can tell."""
    frames = clip.frames[::LOST_EVERY]
    success = torch.zeros(len(frames), dtype=torch.bool)
    return Ghosts(frames=frames, success=success, doubtful=~success)


def mixed(clip: Clip, row: int, *, share: float) -> Tensor:
    """Frame `row` uint8 [3, H, W] with only this share of its subject, and the rest where it began."""
    subject = subject_of(clip)
    either = subject[row] | subject[0]  # [H, W]
    now, begun = clip.frames[row].float(), clip.frames[0].float()
    return torch.where(either, share * now + (1 - share) * begun, now).round().to(torch.uint8)
