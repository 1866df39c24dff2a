"""Diffusion forcing: every frame gets its own noise level and is predicted from what came before it.

The loss is the squared error of the *clean* latents that the predicted velocities imply: the velocity's
error weighted by the level's share of noise. It makes nearly clean frames, which imagination uses only as
context, cost nothing to predict, and spends the model on the levels that imagination walks through.

Source: Chen et al. 2024 (arXiv:2407.01392) section 3; the weight follows from Salimans and Ho 2022
(arXiv:2202.00512) section 4.
"""

import torch
from torch import Tensor

from daemon.learning.world_model.schedule import NOISE_LEVELS, NoiseSchedule
from daemon.learning.world_model.transformer import WorldModelTransformer

CONTEXT_SHARE = 0.5  # frames shown nearly clean, as imagination shows its context
CONTEXT_LEVELS = 100  # "nearly clean": 4 % noise power and below
STILL_WEIGHT = 0.5  # least weight of a place where nothing ever moves
MAX_WEIGHT = 4.0  # most weight of a place where everything happens


def produced_by(actions: Tensor) -> Tensor:
    """Actions of a window [B, F - 1, 10] in the slots of the frames that they produced, [B, F, 10].

    Frame 0 was produced by no action of the window and gets zeros.
    """
    return torch.cat((torch.zeros_like(actions[:, :1]), actions), dim=1)


def draw_levels(batch: int, frames: int, *, generator: torch.Generator) -> Tensor:
    """One noise level per frame, [B, F]: a half nearly clean, the others anywhere."""
    anywhere = torch.randint(NOISE_LEVELS, (batch, frames), generator=generator)
    nearly_clean = torch.randint(CONTEXT_LEVELS, (batch, frames), generator=generator)
    as_context = torch.rand((batch, frames), generator=generator) < CONTEXT_SHARE
    return torch.where(as_context, nearly_clean, anywhere)


def place_weights(movement: Tensor) -> Tensor:
    """Weight of each place of a frame, mean about 1, from how much it ever moves.

    It depends on the place alone, never on the target, so expectations stay unbiased.

    Args:
        movement: mean variance along time at each place, [h, w].
    """
    mean = movement.mean()
    if float(mean) <= 0:
        return torch.ones_like(movement)
    return STILL_WEIGHT + (1 - STILL_WEIGHT) * (movement / mean).clamp(max=2 * MAX_WEIGHT - 1)


def forcing_loss(
    transformer: WorldModelTransformer,
    latents: Tensor,
    actions: Tensor,
    *,
    schedule: NoiseSchedule,
    weights: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error of the clean latents of a batch of windows.

    Args:
        latents: [B, F, C, h, w].
        actions: world-model actions [B, F - 1, 10]; action f was executed at frame f.
        weights: of each place, [h, w].
        generator: draws levels and noise on the processor.
    """
    levels = draw_levels(*latents.shape[:2], generator=generator).to(latents.device)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    predicted = transformer(schedule.noised(latents, noise, levels), levels, produced_by(actions))
    error = (predicted.float() - schedule.velocity(latents, noise, levels)).square().mean(2)  # [B, F, h, w]
    weighted: Tensor = error * weights * schedule.noise_power(levels)[..., None, None]
    return weighted.mean()
