"""The imagined robot: pictures and actions in, the pictures that would follow out.

It answers like the environment of the real robot, for a whole batch of rollouts at once. Latents of every
frame are kept and decoded only when somebody looks; a policy looks once per chunk, a judge at the end.

A world model with a stride imagines every so many steps. Whoever asks for a frame between two of them gets
the next one that was imagined, so that films are as long as real ones and end where the actions end.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from daemon.learning.batch import ACTION_DIM, require_images
from daemon.learning.errors import BadTensor, LearningError
from daemon.learning.grasps import GRIPPER
from daemon.learning.world_model.engine import Engine
from daemon.learning.world_model.latents import world_actions
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.sampling import FrameSampler
from daemon.learning.world_model.slots import gathered


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
        self._stride = world_model.stride
        self._latents: list[Tensor] = []  # of steps 0, stride, 2 · stride, … each [B, c, h, w]

    @property
    def frame_passes(self) -> int:
        """Passes of one frame through the transformer since construction, per rollout of the batch."""
        return self._sampler.frame_passes

    @property
    def steps(self) -> int:
        """Actions executed since the last reset."""
        return max(0, len(self._latents) - 1) * self._stride

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
            BadTensor: not one chunk per rollout, not whole strides, or not finite; nothing was imagined.
            NothingImagined: before the first reset.
        """
        rollouts = len(self._imagined("step")[-1])
        stride = self._stride
        if (
            actions.ndim != 3
            or actions.shape[0] != rollouts
            or not actions.shape[1]
            or actions.shape[1] % stride
        ):
            expected = f"[{rollouts}, L >= 1, {ACTION_DIM}]"
            if stride > 1:
                expected += (
                    f" with L a multiple of {stride}, the actions between two frames of this world model"
                )
            raise BadTensor(name="actions", expected=expected, found=str(list(actions.shape)))
        self._latents += self._sampler.advance(gathered(world_actions(actions), stride)).unbind(1)

    def replay(self, actions: Tensor) -> None:
        """Imagine all actions of episodes [B, T, 7]: of any length, as nobody decides any more.

        For what is missing of the last stride the hand stands still.

        Raises:
            BadTensor, NothingImagined: as `imagine` does.
        """
        missing = -actions.shape[1] % self._stride if actions.ndim == 3 else 0
        if missing:
            still = actions[:, -1:] * (torch.arange(ACTION_DIM, device=actions.device) == GRIPPER)
            actions = torch.cat((actions, still.expand(-1, missing, -1)), dim=1)
        self.imagine(actions)

    def recent_frames(self, count: int) -> Tensor:
        """The last `count` observations, uint8 [B, count, 3, H, W]; the first repeats if there are fewer."""
        self._imagined("recent_frames")
        return self._pictures(range(self.steps - count + 1, self.steps + 1))

    def film(self, every: int = 1) -> Tensor:
        """Every so many observations from the first on, uint8 [B, frames, 3, H, W]."""
        self._imagined("film")
        return self._pictures(range(0, self.steps + 1, every))

    def latents(self) -> Tensor:
        """Every frame of the rollouts, float32 [B, T + 1, c, h, w]."""
        latents = self._imagined("latents")
        return torch.stack([latents[self._place(step)] for step in range(self.steps + 1)], dim=1)

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

    def _place(self, step: int) -> int:
        """Which of the latents shows this step, or the first where it lies before the start."""
        return -(-max(0, step) // self._stride)

    def _pictures(self, steps: Sequence[int]) -> Tensor:
        """The observations at these steps, uint8 [B, steps, 3, H, W]; each latent is decoded once."""
        places = [self._place(step) for step in steps]
        wanted = sorted(set(places))
        flat = self._world_model.decode(torch.cat([self._latents[place] for place in wanted]))
        films = flat.view(len(wanted), -1, *flat.shape[1:]).transpose(0, 1)  # [B, wanted, 3, H, W]
        return films if places == wanted else films[:, [wanted.index(place) for place in places]]
