"""The imagined robot: pictures and actions in, the pictures that would follow out.

It answers like the environment of the real robot, for a whole batch of rollouts at once. Latents of every
frame are kept and decoded only when somebody looks; a policy looks once per chunk, a judge at the end.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from daemon.learning.batch import ACTION_DIM, require_images
from daemon.learning.errors import BadTensor, LearningError
from daemon.learning.world_model.engine import Engine
from daemon.learning.world_model.latents import world_actions
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.sampling import FrameSampler


class NothingImagined(LearningError):
    """An imagined environment was asked before it was reset."""

    code = "nothing_imagined"

    def __init__(self, *, asked: str) -> None:
        super().__init__(
            f"{asked} was asked of an imagined environment before reset(images). Reset it first."
        )


class ImaginedEnv:
    """A batch of rollouts inside a world model, of many starts and tasks at once.

    A rollout's frames depend on its own seed, first image and actions, and not on the others of its batch.

    Args:
        seed: of the seeds of all rollouts that are not given any.
        engine: how passes are run, see `world_model/engine.py`.

    Raises:
        EngineUnavailable: this machine cannot run the engine.
    """

    def __init__(self, world_model: WorldModel, *, seed: int, engine: Engine = "eager") -> None:
        self._world_model = world_model
        self._generator = torch.Generator().manual_seed(seed)
        self._sampler = FrameSampler(world_model, engine=engine)
        self._latents: list[Tensor] = []  # frame 0, 1, … each [B, c, h, w]

    @property
    def frame_passes(self) -> int:
        """Passes of one frame through the transformer since construction, per rollout of the batch."""
        return self._sampler.frame_passes

    @property
    def steps(self) -> int:
        """Actions executed since the last reset."""
        return max(0, len(self._latents) - 1)

    def reset(
        self, images: Tensor, seeds: Sequence[int] | None = None, *, paths: Tensor | None = None
    ) -> None:
        """Start rollouts from these observations; equal ones next to each other are encoded once.

        Args:
            images: uint8 [B, 3, H, W].
            seeds: of each rollout's noise, alike for those that are to differ by what they do alone (common
                random numbers); None draws new ones, all different.
            paths: sum of the moves since its episode began, of each, [B, 6]; None where episodes begin.

        Raises:
            BadTensor: another dtype, shape or size, or not one seed or path per rollout; the rollouts before
                stay as they were.
        """
        if seeds is not None and len(seeds) != len(images):
            raise BadTensor(name="seeds", expected=f"{len(images)} of them", found=str(len(seeds)))
        latents = self._encoded(images)
        drawn = self._drawn_seeds(len(images)) if seeds is None else seeds
        self._sampler.start(latents, drawn, paths=paths)
        self._latents = [latents]

    def step(self, actions: Tensor) -> Tensor:
        """Execute a chunk of actions [B, L, 7], bridge_v2 metres and radians.

        Returns:
            the observation after the chunk, uint8 [B, 3, H, W].

        Raises:
            BadTensor, NothingImagined: as `imagine` does.
        """
        self.imagine(actions)
        return self._world_model.decode(self._latents[-1])

    def imagine(self, actions: Tensor) -> None:
        """The same without looking: nothing is decoded.

        Raises:
            BadTensor: not one chunk per rollout, or not finite; nothing was imagined.
            NothingImagined: before the first reset.
        """
        rollouts = len(self._imagined("step")[-1])
        if actions.ndim != 3 or actions.shape[0] != rollouts or actions.shape[1] < 1:
            expected = f"[{rollouts}, L >= 1, {ACTION_DIM}]"
            raise BadTensor(name="actions", expected=expected, found=str(list(actions.shape)))
        self._latents += self._sampler.advance(world_actions(actions)).unbind(1)

    def recent_frames(self, count: int) -> Tensor:
        """The last `count` observations, uint8 [B, count, 3, H, W]; the first repeats if there are fewer."""
        latents = self._imagined("recent_frames")
        padded = [latents[0]] * (count - len(latents)) + latents[-count:]
        return self._pictures(padded)

    def film(self, every: int = 1) -> Tensor:
        """Every so many observations from the first on, uint8 [B, frames, 3, H, W]."""
        return self._pictures(self._imagined("film")[::every])

    def latents(self) -> Tensor:
        """Every frame of the rollouts, float32 [B, T + 1, c, h, w]."""
        return torch.stack(self._imagined("latents"), dim=1)

    def _encoded(self, images: Tensor) -> Tensor:
        """Latents [B, c, h, w]; the members of a group have one first image."""
        require_images(images, where="imagined environment", size=self._world_model.image_size)
        new = torch.ones(len(images), dtype=torch.bool, device=images.device)
        new[1:] = (images[1:] != images[:-1]).flatten(1).any(1)
        return self._world_model.encode(images[new])[(new.cumsum(0) - 1).to(self._world_model.device)]

    def _drawn_seeds(self, count: int) -> list[int]:
        drawn: list[int] = torch.randint(2**62, (count,), generator=self._generator).tolist()
        return drawn

    def _imagined(self, asked: str) -> list[Tensor]:
        if not self._latents:
            raise NothingImagined(asked=asked)
        return self._latents

    def _pictures(self, latents: list[Tensor]) -> Tensor:
        flat = self._world_model.decode(torch.cat(latents))  # [frames · B, 3, H, W]
        return flat.view(len(latents), -1, *flat.shape[1:]).transpose(0, 1)
