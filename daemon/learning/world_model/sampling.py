"""Imagining frame by frame: remember the frame before, then denoise the new one against all remembered.

A finished frame is shown to later ones slightly dimmed, as if nearly clean, which hides the small errors
that imagination makes and training has never seen. One new frame costs `denoise_steps + 1` passes through
the transformer, however long the rollout; a frame that nothing follows is never remembered.

Source: Chen et al. 2024 (arXiv:2407.01392) section 3.3 for stabilising context with a small noise level.
"""

import torch
from torch import Tensor

from daemon.learning.devices import autocast
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.schedule import NoiseSchedule
from daemon.learning.world_model.transformer import WORLD_ACTION_DIM


class FrameSampler:
    """One batch of imagined rollouts, in latents.

    Attributes:
        frame_passes: passes of one frame through the transformer so far, per rollout of the batch.
    """

    def __init__(self, world_model: WorldModel, *, generator: torch.Generator) -> None:
        self.world_model = world_model
        self.generator = generator
        self.schedule = NoiseSchedule()
        self.walk = self.schedule.walk(world_model.sampling.denoise_steps)
        self.cache = world_model.transformer.empty_cache()
        self.frame_passes = 0
        self._last: tuple[Tensor, Tensor] | None = None  # newest frame and what produced it, to be remembered

    @torch.no_grad()
    def start(self, latents: Tensor) -> None:
        """Begin rollouts at real first frames [B, c, h, w]; forgets any rollout before."""
        self.cache = self.world_model.transformer.empty_cache()
        self._last = latents, torch.zeros(len(latents), WORLD_ACTION_DIM, device=latents.device)

    @torch.no_grad()
    def advance(self, actions: Tensor) -> Tensor:
        """Latents [B, c, h, w] of the frame that world-model actions [B, 10] produce."""
        device, config = self.world_model.device, self.world_model.transformer.config
        side = self.world_model.latent_side
        shape = (len(actions), config.in_channels, side, side)
        frame = torch.randn(shape, generator=self.generator).to(device)
        actions = actions.to(device)
        with autocast(device, self.world_model.precision):
            self._remember_last()
            for level in self.walk:
                velocity = self._pass(frame, actions, level=level, keep=False)
                frame = self.schedule.stepped(velocity, level, frame)
        self._last = frame, actions
        return frame

    def _remember_last(self) -> None:
        if self._last is not None:
            level = self.world_model.sampling.context_level
            frame, actions = self._last
            self._pass(self.schedule.dimmed(frame, level), actions, level=level, keep=True)
            self._last = None

    def _pass(self, frame: Tensor, actions: Tensor, *, level: int, keep: bool) -> Tensor:
        levels = torch.full((len(frame), 1), level, device=frame.device)
        velocity = self.world_model.transformer.remember(
            frame[:, None], levels, actions[:, None], cache=self.cache, keep=keep
        )
        self.frame_passes += 1
        return velocity[:, 0].float()
