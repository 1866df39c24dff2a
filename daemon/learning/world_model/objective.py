"""What training asks of the transformer: each frame of a window, from what came before it.

Two ways to show what came before. *Teacher forcing*: every frame stands in the window twice, nearly clean as
context and noisy to be predicted; a noisy frame sees the nearly clean ones before it and itself, which is
just what imagination one frame at a time shows it. *Diffusion forcing*: every frame stands there once at a
noise level of its own, half of them nearly clean; predecessors may be noisy, as in imagination of several
frames at once, and a window costs half as much.

The loss is the squared error of the *clean* latents that the predictions imply: the target's error with the
weight that its level gives it. It makes nearly clean frames cost nothing to predict. Most of the noisy frames
are at a level that imagination visits (`VISITED_SHARE`), the others anywhere.

Source: Chen et al. 2024 (arXiv:2407.01392) section 3 for diffusion forcing; Williams and Zipser 1989 for
teacher forcing; the weight follows from Salimans and Ho 2022 (arXiv:2202.00512) section 4.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from daemon.learning.world_model.attention import Order
from daemon.learning.world_model.latents import LatentWindows
from daemon.learning.world_model.schedule import NOISE_LEVELS, NoiseSchedule
from daemon.learning.world_model.slots import null_actions, told_slots, while_imagined
from daemon.learning.world_model.transformer import WorldModelTransformer

ForcingWay: TypeAlias = Literal["teacher", "diffusion"]

CONTEXT_SHARE = 0.5  # frames shown nearly clean in diffusion forcing, as imagination shows its context
CONTEXT_LEVELS = 200  # "nearly clean": 12 % noise power and below, about as wrong as imagination gets
OWN_CONTEXT_LEVELS = 30  # own imagination needs no disguise: around the level that imagination shows it at
VISITED_SHARE = 0.8  # noisy frames at a level that imagination visits
STILL_WEIGHT = 0.5  # least weight of a place where nothing ever moves
MAX_WEIGHT = 4.0  # most weight of a place where everything happens


@dataclass(frozen=True, slots=True, kw_only=True)
class Forcing:
    """What a training keeps from update to update.

    Attributes:
        walk: the levels that imagination visits.
        weights: of each place of a frame, [h, w].
        action_dropout: share of windows that are not told any of their actions: what guidance needs.
    """

    way: ForcingWay
    schedule: NoiseSchedule
    walk: tuple[int, ...]
    weights: Tensor
    action_dropout: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnContext:
    """What a teacher's windows show as context in place of the real frames.

    Attributes:
        frames: [B, F, C, h, w]: imagined ones where `windows` says so, real ones elsewhere.
        windows: bool [B], on the processor.
    """

    frames: Tensor
    windows: Tensor


def forcing_loss(
    transformer: WorldModelTransformer,
    windows: LatentWindows,
    *,
    forcing: Forcing,
    generator: torch.Generator,
    own: OwnContext | None = None,
) -> Tensor:
    """Mean squared error of the clean latents of a batch of windows.

    Args:
        windows: on the transformer's device.
        generator: draws levels, noise and dropout on the processor; the same numbers with `own` and without.
        own: context of the model's own making, for teacher forcing.
    """
    latents = windows.latents
    batch, frames = latents.shape[:2]
    noisy, context = draw_levels(batch, frames, walk=forcing.walk, generator=generator)
    slots = told_slots(windows.actions, transformer.config, path=windows.paths)
    order: Order | None = None
    if forcing.way == "teacher":
        before, context = _context(latents, context, own=own)
        levels, order = torch.cat((context, noisy[:, 1:]), dim=1), teacher_order(frames)
        latents = torch.cat((before, latents[:, 1:]), dim=1)
        slots = torch.cat((slots, while_imagined(slots, transformer.config.action_slot)[:, 1:]), dim=1)
    else:
        as_context = torch.rand((batch, frames), generator=generator) < CONTEXT_SHARE
        levels = torch.where(as_context, context, noisy)
    levels = levels.to(latents.device)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    shown = forcing.schedule.noised(latents, noise, levels)
    slots = _told(slots, forcing.action_dropout, generator)
    predicted = transformer(shown, levels, slots, order=order)
    asked = slice(frames if forcing.way == "teacher" else 0, None)
    target = forcing.schedule.target(latents, noise, levels)[:, asked]
    error = (predicted[:, asked].float() - target).square().mean(2)  # [B, F, h, w]
    level_weights = forcing.schedule.error_weight(levels[:, asked])[..., None, None]
    weights = windows.weights[:, 1:] if forcing.way == "teacher" else windows.weights
    weighted: Tensor = error * forcing.weights * weights * level_weights
    return weighted.mean()


def draw_levels(
    batch: int, frames: int, *, walk: tuple[int, ...], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """For every frame a level to be predicted at and one to be shown at as context, each [B, F]."""
    shape = (batch, frames)
    anywhere = torch.randint(NOISE_LEVELS, shape, generator=generator)
    visited = torch.tensor(walk)[torch.randint(len(walk), shape, generator=generator)]
    noisy = torch.where(torch.rand(shape, generator=generator) < VISITED_SHARE, visited, anywhere)
    return noisy, torch.randint(CONTEXT_LEVELS, shape, generator=generator)


def teacher_order(frames: int) -> Order:
    """Context frames 0..F-1, then noisy frames 1..F-1: each sees the context before it, and itself."""
    at = torch.cat((torch.arange(frames), torch.arange(1, frames)))
    context = torch.arange(len(at)) < frames
    itself = torch.eye(len(at), dtype=torch.bool)
    return Order(positions=at, sees=itself | (context & (at[:, None] > at)))


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


def _context(latents: Tensor, levels: Tensor, *, own: OwnContext | None) -> tuple[Tensor, Tensor]:
    """Frames shown as context and their levels [B, F]; own ones closer to clean."""
    if own is None:
        return latents, levels
    closer = levels * OWN_CONTEXT_LEVELS // CONTEXT_LEVELS
    return own.frames, torch.where(own.windows[:, None], closer, levels)


def _told(slots: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
    """The slots, those of whole windows at random without any action."""
    if not dropout:
        return slots
    untold = (torch.rand(len(slots), generator=generator) < dropout).to(slots.device)
    return torch.where(untold[:, None, None], null_actions(slots), slots)
