"""Imagining chunk by chunk: denoise new frames against all remembered, remember each once it is finished.

A finished frame is shown to later ones slightly dimmed, as if nearly clean, which hides the small errors
that imagination makes and training has never seen. It is remembered in the same pass that takes the first
step of the frame after it, so a frame costs `denoise_steps + 1` passes of one frame and `denoise_steps`
calls, however long the rollout; one that nothing follows is never remembered.

With a horizon above 1 the frames of a chunk are denoised together, each one step behind the frame before it:
the same passes in fewer, larger calls (`denoise_steps + horizon - 1` for a chunk), and other frames, since a
frame then sees its predecessors while they are still noisy.

Source: Chen et al. 2024 (arXiv:2407.01392) sections 3.3 and 3.4 for context at a small noise level and the
pyramid of noise levels; Quevedo et al. 2025 (arXiv:2506.00613) section 3 for whole action chunks at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daemon.learning.devices import autocast
from daemon.learning.errors import BadTensor
from daemon.learning.world_model.blocks import Modulations
from daemon.learning.world_model.cache import FrameCache
from daemon.learning.world_model.engine import Chunk, Engine, RecordedChunk, require_engine
from daemon.learning.world_model.model import Sampling, WorldModel
from daemon.learning.world_model.path import PATH_DIM
from daemon.learning.world_model.slots import null_actions, path_along, told_slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One call of the transformer: so many frames from `first` on at these levels; some of them are kept."""

    first: int
    levels: tuple[int, ...]
    keeps: int


class FrameSampler:
    """One batch of imagined rollouts, in latents.

    Args:
        sampling: how frames are imagined; the world model's own unless told.

    Attributes:
        frame_passes: passes of one frame through the transformer so far, per rollout of the batch; guidance
            counts twice.

    Raises:
        EngineUnavailable: this machine cannot run the engine.
        StepsUneven: the world model's denoise steps would leave noise in the frames.
    """

    def __init__(
        self, world_model: WorldModel, *, engine: Engine = "eager", sampling: Sampling | None = None
    ) -> None:
        require_engine(engine, world_model.device)
        self.world_model = world_model
        self.sampling = sampling or world_model.sampling
        self.schedule = world_model.schedule
        self.walk = self.schedule.walk(self.sampling.denoise_steps)
        self.frame_passes = 0
        remember = world_model.transformer.remember
        self._remember = remember if engine == "eager" else torch.compile(remember, dynamic=False)
        self._records = engine == "graphs"
        self._run: Chunk = self._imagined
        self.cache: FrameCache
        self._counted: dict[int, int] = {}  # frame passes of a chunk of so many frames, when it last ran
        self._asked: dict[int, tuple[Tensor, Tensor]] = {}  # levels and frames of its passes, on the device
        self._generators: list[torch.Generator] = []
        self._last: Tensor = torch.empty(0)  # newest frame [B, c, h, w], to be remembered
        self._moved: Tensor = torch.empty(0)  # what produced it [B, 10 · stride]
        self._path: Tensor = torch.empty(0)  # the sum of all moves up to it [B, 6]

    @property
    def horizon(self) -> int:
        """Frames that are denoised together."""
        return self.sampling.horizon

    @torch.no_grad()
    def start(self, latents: Tensor, seeds: Sequence[int], *, paths: Tensor | None = None) -> None:
        """Begin rollouts at real frames [B, c, h, w]; forgets any rollout before.

        Args:
            seeds: of each rollout's noise. A rollout's frames depend on its own seed alone; rollouts of equal
                seeds see equal noise.
            paths: sum of the moves that led there, [B, 6]; None where episodes begin.

        Raises:
            BadTensor: not one path per rollout; the rollouts before stay as they were.
        """
        none = torch.zeros(len(latents), PATH_DIM)
        paths = none if paths is None else paths
        if paths.shape != none.shape:
            raise BadTensor(name="paths", expected=str(list(none.shape)), found=str(list(paths.shape)))
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        if self._last.shape == latents.shape:
            self.cache.clear()
        else:
            shown = latents.repeat(self._streams, 1, 1, 1)
            self.cache = self.world_model.transformer.empty_cache(
                shown, ahead=self.horizon + 1, dtype=self.world_model.precision
            )
            if self._records:
                self._run = RecordedChunk(self._imagined, self.cache)
        self._last = latents
        width = self.world_model.transformer.moved_width
        self._moved = torch.zeros(len(latents), width, device=latents.device)
        self._path = paths.to(latents.device)

    @torch.no_grad()
    def advance(self, actions: Tensor) -> Tensor:
        """Latents [B, L, c, h, w] of the frames that actions [B, L, 10 · stride] produce, one each.

        With a horizon above 1, chunks of another cut give other frames.
        """
        parts = []
        for chunk in actions.to(self._last.device).split(self.horizon, dim=1):
            with autocast(self._last.device, self.world_model.precision):
                inputs = (self._noise(chunk.shape[1]), chunk, self._last, self._moved, self._path)
                parts.append(self._run(inputs))
            self._last, self._moved = parts[-1][:, -1], chunk[:, -1]
            self._path = path_along(chunk, self._path)[:, -1]
            self.frame_passes += self._counted[chunk.shape[1]]
        return torch.cat(parts, dim=1)

    @property
    def _streams(self) -> int:
        """How often every rollout goes through the transformer: guidance also asks without actions."""
        return 1 if self.sampling.guidance == 1 else 2

    def _noise(self, count: int) -> Tensor:
        """Fresh noise [B, count, c, h, w], each rollout's from its own generator."""
        shape = self._last.shape[1:]
        drawn = [[torch.randn(shape, generator=own) for _ in range(count)] for own in self._generators]
        return torch.stack([torch.stack(frames) for frames in drawn]).to(self._last.device)

    def _imagined(self, inputs: Sequence[Tensor]) -> Tensor:
        """Frames [B, L, c, h, w] of one chunk.

        Args:
            inputs: noise [B, L, c, h, w], actions [B, L, 10 · stride], the frame before, which is remembered
                on the way (the chunk's last is not), what produced it, and the path up to it.
        """
        noise, actions, last, moved, path = inputs
        slots = told_slots(actions, self.world_model.transformer.config, path=path, before=moved)
        frames, done = [last, *noise.unbind(1)], 0
        passes = self._passes_of(noise.shape[1])
        told = self._told(passes, slots)
        for each in passes:
            count = len(each.levels)
            x = torch.stack(frames[each.first : each.first + count], dim=1)
            if each.keeps:
                x[:, 0] = self.schedule.dimmed(x[:, 0], self.sampling.context_level)
            predicted = self._predicted(x, told.of(slice(done, done + count)), keep=each.keeps)
            done += count
            for place in range(each.keeps, count):
                frame, level = each.first + place, each.levels[place]
                frames[frame] = self.schedule.stepped(predicted[:, place - each.keeps], level, frames[frame])
        self._counted[noise.shape[1]] = done * self._streams
        return torch.stack(frames[1:], dim=1)

    def _passes_of(self, count: int) -> list[Pass]:
        """The passes of a chunk of `count` frames, frame 0 being the one before it."""
        steps, passes = len(self.walk), []
        for tick in range(steps + count - 1):
            first, final = max(1, tick - steps + 2), min(count, tick + 1)  # noisy frames
            levels = [self.walk[tick + 1 - frame] for frame in range(first, final + 1)]
            keeps = 1 if tick == 0 or tick >= steps else 0  # the frame before has just been finished
            context = [self.sampling.context_level] * keeps
            passes.append(Pass(first=first - keeps, levels=(*context, *levels), keeps=keeps))
        return passes

    def _told(self, passes: Sequence[Pass], slots: Tensor) -> Modulations:
        """Modulations of the frames of all passes, one pass after the other."""
        key = slots.shape[1]
        if key not in self._asked:
            levels = [level for each in passes for level in each.levels]
            frames = [each.first + place for each in passes for place in range(len(each.levels))]
            self._asked[key] = (
                torch.tensor([levels], device=slots.device),
                torch.tensor(frames, device=slots.device),
            )
        levels_of, frames_of = self._asked[key]
        asked = slots.index_select(1, frames_of)
        if self._streams == 2:  # with the actions and without, in one batch
            asked = torch.cat((asked, null_actions(asked)))
        return self.world_model.transformer.modulations(levels_of, asked)

    def _predicted(self, x: Tensor, told: Modulations, *, keep: int) -> Tensor:
        """The schedule's target [B, n - keep, c, h, w] for frames x [B, n, c, h, w] behind the first `keep`.

        Those become part of the past.
        """
        shown = x if self._streams == 1 else x.repeat(2, 1, 1, 1, 1)
        predicted: Tensor = self._remember(shown, told, cache=self.cache, silent=keep).float()
        if keep:
            self.cache.keep(keep)
        if self._streams == 1:
            return predicted
        with_actions, without = predicted.chunk(2)
        return without + self.sampling.guidance * (with_actions - without)
