"""One optimizer step done right: clipped, checked, scheduled, and outside of any autocast."""

import math
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
        optimizer = AdamW(module.parameters(), lr=rate, betas=BETAS, weight_decay=WEIGHT_DECAY)

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


def stepped(loss: Tensor, module: nn.Module, optimizing: Optimizing) -> bool:
    """Take one step down `loss`; False, with the weights untouched, when loss or gradient is not finite."""
    optimizing.optimizer.zero_grad(set_to_none=True)
    if not bool(loss.isfinite()):
        return False
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), MAX_GRADIENT_NORM)
    if not bool(norm.isfinite()):
        return False
    optimizing.optimizer.step()
    optimizing.schedule.step()
    return True
