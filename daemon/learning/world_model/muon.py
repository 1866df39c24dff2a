"""Muon as torch has it, but orthogonalizing in a chosen type.

torch's own does so in bfloat16 whatever the machine, which takes most of an update where a processor has no
instructions for it. Groups and state are torch's, so either goes on from what the other left.

Source: Jordan et al. 2024 (Muon), the quintic iteration; Liu et al. 2025 (arXiv:2502.16982) section 2.2 for
the scale by the longer side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MATCHING_ADAMW = 0.2  # root mean square of a step of AdamW, as section 2.2 has measured it


class Muon(torch.optim.Muon):
    """Muon with the scale that lets it have a rate and decay like AdamW's.

    `precision` is the type in which steps are orthogonalized; a parameter of another type is none the worse.
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], *, lr: float, weight_decay: float, precision: torch.dtype
    ) -> None:
        super().__init__(weights, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step every weight that has a gradient; the closure, if there is one, gives gradients and loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step_one(weight, group)
        return loss

    def _step_one(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight.grad)  # type: ignore[arg-type]
        gradient: Any = weight.grad
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        direction = orthogonalized(
            ahead.to(self.precision),
            coefficients=group["ns_coefficients"],
            steps=group["ns_steps"],
            least_norm=group["eps"],
        )
        rate = float(group["lr"])
        weight.mul_(1 - rate * group["weight_decay"])
        weight.add_(direction, alpha=-rate * MATCHING_ADAMW * math.sqrt(max(weight.shape)))


def orthogonalized(
    matrix: Tensor, *, coefficients: tuple[float, float, float], steps: int, least_norm: float
) -> Tensor:
    """A matrix [R, C] with the same singular vectors, whose singular values are all near 1.

    They come within about a factor of two of it: the coefficients of Newton and Schulz's iteration are chosen
    so that small ones grow fast, not so that it converges.
    """
    first, third, fifth = coefficients
    is_tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if is_tall else matrix  # the product below is the smaller one
    found = found / found.norm().clamp(min=least_norm)  # no singular value above 1
    for _ in range(steps):
        gram = found @ found.T
        inner = torch.addmm(gram, gram, gram, beta=third, alpha=fifth)
        found = torch.addmm(found, inner, found, beta=first)
    return found.T if is_tall else found
