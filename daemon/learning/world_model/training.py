"""Training the transformer on encoded clips: the same loop pretrains it and finetunes it.

It changes the transformer that it is given and ends with the moving average of the weights; the caller
copies first what must survive. The autoencoder is frozen, so latents are encoded once, before.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from daemon.learning.batch import NoWindow
from daemon.learning.devices import autocast
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.world_model.latents import LatentClips, LatentWindows, cut
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.objective import forcing_loss, place_weights
from daemon.learning.world_model.optimizing import Optimizing, stepped
from daemon.learning.world_model.schedule import NoiseSchedule

OnUpdate = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One run of updates.

    Attributes:
        batch: windows per update.
        frames: frames per window.
        learning_rate: of AdamW after the warm-up.
        decays: whether the rate falls to nearly zero along a cosine until the last update.
        ema: decay of the moving average that is kept in the end; 0 keeps the last weights.
        fresh_share: share of windows cut from the fresh clips while there are both fresh and base ones.
    """

    updates: int
    batch: int = 32
    frames: int = 16
    learning_rate: float = 1e-3
    decays: bool = True
    ema: float = 0.995
    fresh_share: float = 0.5
    seed: int = 0


class WindowSource:
    """Windows of a fixed mix of fresh and base clips."""

    def __init__(self, fresh: LatentClips, base: LatentClips, config: TrainingConfig) -> None:
        self.fresh, fresh_left = fresh.long_enough(config.frames)
        self.base, base_left = base.long_enough(config.frames)
        self.left_out = fresh_left + base_left
        if len(self.fresh) + len(self.base) == 0:
            longest = max((len(clip.latents) for clip in (fresh + base).clips), default=0)
            raise NoWindow(frames=config.frames, longest=longest, clips=len(fresh) + len(base))
        self.frames = config.frames
        share = config.fresh_share if len(self.fresh) and len(self.base) else float(len(self.fresh) > 0)
        self.fresh_windows = round(config.batch * share)
        self.base_windows = config.batch - self.fresh_windows
        self.generator = torch.Generator().manual_seed(config.seed)

    def draw(self) -> LatentWindows:
        """The next batch."""
        parts = [
            cut(clips, batch=count, frames=self.frames, generator=self.generator)
            for clips, count in ((self.fresh, self.fresh_windows), (self.base, self.base_windows))
            if count > 0
        ]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def train_transformer(
    world_model: WorldModel,
    base: LatentClips,
    *,
    config: TrainingConfig,
    on_update: OnUpdate,
    fresh: LatentClips | None = None,
) -> tuple[str, ...]:
    """Train the transformer of `world_model` in place.

    Args:
        on_update: called after every update with its number and {"loss", "learning_rate"}; what it raises
            stops the training and leaves the weights of that update, not their average.

    Returns:
        episode ids that were too short for a window and taught nothing.

    Raises:
        NoWindow: every clip is too short.
        NonFiniteLoss: names the episodes; the weights are those before that update.
    """
    source = WindowSource(fresh or LatentClips(), base, config)
    weights = place_weights((source.fresh + source.base).movement()).to(world_model.device)
    transformer, schedule = world_model.transformer, NoiseSchedule()
    optimizing = Optimizing.of(
        transformer, rate=config.learning_rate, updates=config.updates, decays=config.decays
    )
    average = EMAModel(transformer.parameters(), decay=config.ema)
    transformer.train()
    for update in range(config.updates):
        windows = source.draw()
        loss = _loss(world_model, windows, schedule=schedule, weights=weights, generator=source.generator)
        if not stepped(loss, transformer, optimizing):
            inputs = "windows of episodes " + ", ".join(sorted(set(windows.episode_ids)))
            raise NonFiniteLoss(
                phase="world model training", update=update, quantity="loss or gradient", inputs=inputs
            )
        average.step(transformer.parameters())
        on_update(update, {"loss": loss.item(), "learning_rate": optimizing.rate})
    average.copy_to(transformer.parameters())
    transformer.eval()
    return source.left_out


def _loss(
    world_model: WorldModel,
    windows: LatentWindows,
    *,
    schedule: NoiseSchedule,
    weights: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """The loss of one batch; autocast ends with it, before any optimizer step."""
    with autocast(world_model.device, world_model.precision):
        return forcing_loss(
            world_model.transformer,
            windows.latents.to(world_model.device),
            windows.actions.to(world_model.device),
            schedule=schedule,
            weights=weights,
            generator=generator,
        )
