"""The optimizer loop of our supervised trainings: AdamW, warm-up, cosine to zero, clipped norm.

It knows no model and no task: the caller hands in a function that draws a batch and returns its loss.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from daemon.learning.errors import NonFiniteLoss

WARM_UP = 0.1  # share of the updates during which the learning rate rises
TAIL = 0.1  # share of the updates, at the end, over which reported metrics are averaged

LossOfBatch = Callable[[], tuple[Tensor, dict[str, Tensor]]]
OnUpdate = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """How to descend. `phase` names the training in errors."""

    phase: str
    updates: int
    lr: float
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0


def descend(
    module: nn.Module, loss_of_batch: LossOfBatch, *, plan: Descent, on_update: OnUpdate
) -> dict[str, float]:
    """Minimise in place; the module is in training mode meanwhile and in evaluation mode afterwards.

    Args:
        loss_of_batch: draws a batch; returns its loss (a scalar with gradient) and further metrics.
        on_update: called after update 1, 2, … with "loss", "grad_norm" and the further metrics.

    Returns:
        Metrics averaged over the last tenth of the updates; empty when there were none.

    Raises:
        NonFiniteLoss: loss or gradient norm is NaN or infinite; weights are those before that update.
    """
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=plan.lr, weight_decay=plan.weight_decay, betas=(0.9, 0.95)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: rate(done, plan.updates))
    tail: deque[dict[str, float]] = deque(maxlen=max(1, math.ceil(plan.updates * TAIL)))
    module.train()
    try:
        for update in range(1, plan.updates + 1):
            loss, extra = loss_of_batch()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(module.parameters(), plan.max_grad_norm)
            require_finite(plan.phase, update, loss=loss, grad_norm=norm)
            optimizer.step()
            schedule.step()
            metrics = {"loss": loss, "grad_norm": norm, **extra}
            tail.append({name: float(value.detach()) for name, value in metrics.items()})
            on_update(update, tail[-1])
    finally:
        module.eval()
    return {name: sum(row[name] for row in tail) / len(tail) for name in tail[0]} if tail else {}


def rate(done: int, updates: int) -> float:
    """Learning-rate factor after `done` updates: a short linear rise, then half a cosine down to zero."""
    rise = max(1, round(WARM_UP * updates))
    if done < rise:
        return (done + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (done - rise) / max(1, updates - rise)))


def require_finite(phase: str, update: int, **quantities: Tensor) -> None:
    """Refuse to go on with NaN or infinity.

    Raises:
        NonFiniteLoss: naming the first quantity that is not finite.
    """
    for name, value in quantities.items():
        if not bool(torch.isfinite(value).all()):
            raise NonFiniteLoss(
                phase=phase, update=update, quantity=name.replace("_", " "), inputs="its batch"
            )
