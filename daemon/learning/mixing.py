"""Taking on a part of what a finetuning learned, so that less of what was known before is forgotten.

Source: Wortsman et al. 2022 (arXiv:2109.01903) equation 1: (1 - share) · before + share · learned.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights, by name."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@torch.no_grad()
def mix(model: nn.Module, before: Mapping[str, Tensor], *, share: float) -> None:
    """Bring the weights back to `share` of their way from those of `before`, in place."""
    for name, weight in model.named_parameters():
        weight.lerp_(before[name], 1.0 - share)
