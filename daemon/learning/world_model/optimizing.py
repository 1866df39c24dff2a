"""One optimizer step done right: clipped, checked, scheduled, and outside of any autocast."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

WARM_UP_UPDATES = 25
FLOOR = 0.02  # share of the learning rate that a decaying schedule ends with
MAX_GRADIENT_NORM = 1.0
BETAS = (0.9, 0.99)
WEIGHT_DECAY = 0.01


@dataclass(frozen=True, slots=True)
class Optimizing:
    """An optimizer and the schedule of its learning rate."""

    optimizer: AdamW
    schedule: LambdaLR

    @classmethod
    def of(cls, module: nn.Module, *, rate: float, updates: int, decays: bool) -> "Optimizing":
        """AdamW with a warm-up; `decays` lets the rate fall along a cosine until `updates`, else it stays."""
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        optimizer = AdamW(weights, lr=rate, betas=BETAS, weight_decay=WEIGHT_DECAY)

        def share(update: int) -> float:
            warm = min(1.0, (update + 1) / WARM_UP_UPDATES)
            if not decays:
                return warm
            along = min(1.0, update / max(1, updates))
            return warm * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * along)))

        return cls(optimizer, LambdaLR(optimizer, share))

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def go_to(self, step: int) -> None:
        """Give the next step the rate that it has after so many."""
        self.schedule.last_epoch = step - 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch thinks that the optimizer should step in between
            self.schedule.step()


def stepped(losses: Iterable[Tensor], module: nn.Module, optimizing: Optimizing) -> float | None:
    """Take one step down the sum of `losses`, each walked back before the next is asked for; gives the sum.

    None, with the weights untouched, when a loss or the gradient is not finite.
    """
    optimizing.optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for loss in losses:
        if not bool(loss.isfinite()):
            return None
        loss.backward()
        total += loss.item()
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(weights, MAX_GRADIENT_NORM)
    if not bool(norm.isfinite()):
        return None
    optimizing.optimizer.step()
    optimizing.schedule.step()
    return total
