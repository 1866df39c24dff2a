"""What a judge is: the last frames of rollouts and their instructions in, verdicts out.

A judge may decline: a verdict that is not `known` is no failure, it is left out of whatever is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from daemon.learning.errors import LearningError


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """One verdict per rollout.

    Attributes:
        success: bool [B]; meaningless where not known.
        known: bool [B], whether the judge commits itself.
        probability: float32 [B] of success, as the judge sees it.
    """

    success: Tensor
    known: Tensor
    probability: Tensor


class JudgeExhausted(LearningError):
    """A judge that may not be asked any more; who asks ends well with what there is."""

    code = "judge_exhausted"


class Judge(Protocol):
    """Anything that can tell success from failure by looking."""

    @property
    def frames(self) -> int:
        """How many of the last frames of a rollout it wants to see."""

    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        """Verdicts on uint8 [B, F, 3, H, W], oldest frame first, for B instructions."""
