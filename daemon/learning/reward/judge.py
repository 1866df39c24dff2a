"""What a judge is: the last frames of rollouts and their instructions in, verdicts out.

A judge may decline: a verdict that is not `known` is no failure, it is left out of whatever is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from daemon.learning.errors import BadTensor, LearningError


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """One verdict per rollout.

    Attributes:
        success: bool [B]; meaningless where not known.
        known: bool [B], whether the judge commits itself.
        probability: float32 [B] of success, as the judge sees it.
        votes: int64 [B], how many could be read, where the judge counts votes.
        members: what each judge of an ensemble said, for the record.
    """

    success: Tensor
    known: Tensor
    probability: Tensor
    votes: Tensor | None = None
    members: tuple[Verdicts, ...] = ()


class JudgeExhausted(LearningError):
    """A judge that may not be asked any more; who asks ends well with what there is."""

    code = "judge_exhausted"


class WhileItLasts:
    """A judge that declines once the one it asks is exhausted. Obeys `Judge`.

    For measuring: what else is measured is worth having without its verdicts. Whether it came to that is in
    `exhausted`.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.exhausted = False

    @property
    def frames(self) -> int:
        return self._judge.frames

    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        """Verdicts on uint8 [B, F, 3, H, W]; none is known where the judge may not be asked any more."""
        try:
            return self._judge.judge(frames, instructions)
        except JudgeExhausted:
            self.exhausted = True
            nothing = torch.zeros(len(frames), dtype=torch.bool)
            return Verdicts(success=nothing, known=nothing, probability=torch.full((len(frames),), 0.5))


def require_films(frames: Tensor, instructions: Sequence[str]) -> None:
    """Check what a judge is given.

    Raises:
        BadTensor: not uint8 [B, F >= 1, 3, H, W], or not one instruction each.
    """
    fits = frames.ndim == 5 and frames.dtype == torch.uint8 and frames.shape[1] >= 1
    if not fits or len(instructions) != len(frames):
        found = f"{frames.dtype} {list(frames.shape)} for {len(instructions)} instructions"
        expected = "uint8 [B, F, 3, H, W] with F >= 1, one instruction each"
        raise BadTensor(name="frames", expected=expected, found=found)


class Judge(Protocol):
    """Anything that can tell success from failure by looking."""

    @property
    def frames(self) -> int:
        """How many of the last frames of a rollout it wants to see."""

    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        """Verdicts on uint8 [B, F, 3, H, W], oldest frame first, for B instructions."""
