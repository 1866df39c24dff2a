"""Several judges as one: they must agree, or nothing is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from daemon.learning.reward.judge import Judge, Verdicts


class EnsembleJudge:
    """Knows what at least two of its judges know and none of those that commit themselves denies.

    Each judge sees as many of the last frames as it wants; `probability` is the mean of theirs.
    """

    def __init__(self, judges: Sequence[Judge]) -> None:
        self._judges = tuple(judges)

    @property
    def frames(self) -> int:
        return max(judge.frames for judge in self._judges)

    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        """See `Judge`.

        Raises:
            BadTensor: what any of the judges raises.
        """
        given = [judge.judge(frames[:, -judge.frames :], instructions) for judge in self._judges]
        known = torch.stack([verdicts.known.cpu() for verdicts in given])  # [judges, B]
        said = torch.stack([verdicts.success.cpu() for verdicts in given])
        commit = known.sum(0)
        yes = (said & known).sum(0)
        agreed = (commit >= 2) & ((yes == 0) | (yes == commit))
        probability = torch.stack([verdicts.probability.cpu().float() for verdicts in given]).mean(0)
        success = agreed & (yes > 0)
        return Verdicts(success=success, known=agreed, probability=probability, members=tuple(given))
