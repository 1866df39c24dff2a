"""One optimizer step done right: clipped, checked, scheduled, and outside of any autocast.

Two ways to step. *AdamW* treats every weight alike. *Muon* steps the matrices of the blocks along the
orthogonalized momentum, all directions of a matrix equally far, and everything else as AdamW does; a
transformer that starts from nothing learns in far fewer updates (`benchmarks/RESULTS.md`).

Source: Loshchilov and Hutter 2019 (arXiv:1711.05101) for AdamW; Jordan et al. 2024 (Muon) and Liu et al. 2025
(arXiv:2502.16982) section 2.2 for the scale that lets Muon have a rate and decay like AdamW's.
"""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from daemon.learning.devices import choose_precision
from daemon.learning.world_model.muon import Muon

OptimizerName: TypeAlias = Literal["adamw", "muon"]

WARM_UP_UPDATES = 25
FLOOR = 0.02  # share of the learning rate that a decaying schedule ends with
MAX_GRADIENT_NORM = 1.0
BETAS = (0.9, 0.99)
WEIGHT_DECAY = 0.01
BESIDE_MUON = 0.15  # share of Muon's rate that AdamW has for everything else


@dataclass(frozen=True, slots=True)
class Optimizing:
    """Optimizers, each with the schedule of its learning rate; they step together."""

    optimizers: tuple[Optimizer, ...]
    schedules: tuple[LambdaLR, ...]

    @classmethod
    def of(
        cls, module: nn.Module, *, rate: float, updates: int, decays: bool, name: OptimizerName = "adamw"
    ) -> "Optimizing":
        """The optimizer of this name with a warm-up.

        Args:
            decays: the rate falls along a cosine until `updates`, else it stays.
        """

        def share(update: int) -> float:
            warm = min(1.0, (update + 1) / WARM_UP_UPDATES)
            if not decays:
                return warm
            along = min(1.0, update / max(1, updates))
            return warm * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * along)))

        optimizers = _optimizers(module, rate=rate, name=name)
        return cls(optimizers, tuple(LambdaLR(optimizer, share) for optimizer in optimizers))

    @property
    def rate(self) -> float:
        """The learning rate of the next step, of the first optimizer."""
        return float(self.schedules[0].get_last_lr()[0])

    @property
    def steps(self) -> int:
        """How many were taken."""
        return int(self.schedules[0].last_epoch)

    def step(self) -> None:
        """Take one, and go on in the schedule."""
        for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
            optimizer.step()
            schedule.step()

    def forget_gradients(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def go_to(self, step: int) -> None:
        """Give the next step the rate that it has after so many."""
        for schedule in self.schedules:
            schedule.last_epoch = step - 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch thinks that the optimizer should step in between
                schedule.step()


def _optimizers(module: nn.Module, *, rate: float, name: OptimizerName) -> tuple[Optimizer, ...]:
    named = {n: weight for n, weight in module.named_parameters() if weight.requires_grad}
    inner = [weight for n, weight in named.items() if weight.ndim == 2 and "blocks." in n]
    if name == "adamw":
        return (AdamW(named.values(), lr=rate, betas=BETAS, weight_decay=WEIGHT_DECAY),)
    chosen = {id(weight) for weight in inner}
    others = [weight for weight in named.values() if id(weight) not in chosen]
    precision = choose_precision(next(module.parameters()).device.type)
    return (
        Muon(inner, lr=rate, weight_decay=WEIGHT_DECAY, precision=precision),
        AdamW(others, lr=rate * BESIDE_MUON, betas=BETAS, weight_decay=WEIGHT_DECAY),
    )


def stepped(losses: Iterable[Tensor], module: nn.Module, optimizing: Optimizing) -> float | None:
    """Take one step down the sum of `losses`, each walked back before the next is asked for; gives the sum.

    None, with the weights untouched, when a loss or the gradient is not finite.
    """
    optimizing.forget_gradients()
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
    optimizing.step()
    return total
