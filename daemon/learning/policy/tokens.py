"""Actions as tokens: every action dimension is cut into bins, and a token is the number of a bin.

A token decodes to the centre of its bin, so a round trip loses at most half a bin. The number of bins
is odd by default: the middle bin of a symmetric range then decodes to exactly no motion.

Source: the discretisation of OpenVLA (Kim et al. 2024, arXiv:2406.09246, section 3.2), where 256 points of
linspace(-1, 1) bound 255 bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from daemon.learning.errors import BadTensor, LearningError

ACTION_DIMS = 7  # dx dy dz [m], droll dpitch dyaw [rad], gripper 0 closed .. 1 open
NANO_BINS = 31
NANO_STEP_M = 0.04  # the longest step per axis that nano demonstrations take
NANO_TURN_RAD = 0.2
_GRIPPER_MARGIN = 0.5 / (NANO_BINS - 1)  # puts the outermost centres on exactly 0 and 1


class BinningInvalid(LearningError):
    """Bounds or a bin count that no action can be cut with."""

    code = "binning_invalid"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"action binning cannot be used: {reason}. Correct the bounds or the bin count.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionBinning:
    """Equal bins between `low` and `high` (one bound per action dimension, metres and radians).

    Raises:
        BinningInvalid: bounds of unequal length, not finite or not increasing; fewer than two bins.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    bins: int

    def __post_init__(self) -> None:
        low, high = torch.tensor(self.low), torch.tensor(self.high)
        if low.shape != high.shape or low.numel() == 0:
            raise BinningInvalid(reason=f"{low.numel()} lower and {high.numel()} upper bounds")
        if not bool(torch.isfinite(low).all() and torch.isfinite(high).all() and (low < high).all()):
            raise BinningInvalid(reason=f"low {self.low} is not below high {self.high} everywhere")
        if self.bins < 2:
            raise BinningInvalid(reason=f"{self.bins} bins leave nothing to choose")

    @property
    def dims(self) -> int:
        return len(self.low)

    def encode(self, actions: Tensor) -> Tensor:
        """Number the bin of each action component; what lies outside goes to the outermost bin.

        Args:
            actions: float [..., A].

        Returns:
            int64 tokens [..., A] in [0, bins).

        Raises:
            BadTensor: the last dimension is not A, or a component is NaN or infinite.
        """
        self._expect_last_dimension("actions", actions)
        if not bool(torch.isfinite(actions).all()):
            raise BadTensor(name="actions", expected="finite numbers", found="NaN or infinity")
        low, high = self._bounds(actions.device)
        places = (actions.double() - low) / (high - low) * self.bins  # [..., A], in bins
        return places.floor().clamp(0, self.bins - 1).long()

    def decode(self, tokens: Tensor) -> Tensor:
        """Centre of each token's bin: float32 [..., A] of int tokens [..., A].

        Raises:
            BadTensor: the last dimension is not A, or a token is outside [0, bins).
        """
        self._expect_last_dimension("tokens", tokens)
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.bins:
            found = f"{int(tokens.min())}..{int(tokens.max())}"
            raise BadTensor(name="tokens", expected=f"within 0..{self.bins - 1}", found=found)
        low, high = self._bounds(tokens.device)
        return (low + (tokens.double() + 0.5) * (high - low) / self.bins).float()

    def _bounds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        low = torch.tensor(self.low, dtype=torch.float64, device=device)
        return low, torch.tensor(self.high, dtype=torch.float64, device=device)

    def _expect_last_dimension(self, name: str, tensor: Tensor) -> None:
        if tensor.ndim == 0 or tensor.shape[-1] != self.dims:
            raise BadTensor(name=name, expected=f"[..., {self.dims}]", found=str(list(tensor.shape)))


def nano_binning() -> ActionBinning:
    """bridge_v2 actions at nano scale: steps of ±4 cm, turns of ±0.2 rad, gripper exactly 0 to exactly 1."""
    motion = (NANO_STEP_M,) * 3 + (NANO_TURN_RAD,) * 3
    return ActionBinning(
        low=(*(-bound for bound in motion), -_GRIPPER_MARGIN),
        high=(*motion, 1.0 + _GRIPPER_MARGIN),
        bins=NANO_BINS,
    )
