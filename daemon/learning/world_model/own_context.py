"""Teaching the model by its own mistakes: context that it imagines itself, in place of the real frames.

Imagination sees its own frames, which are a little wrong in ways that noise is not; a model that has seen
nothing but real ones goes further astray from them. So for a share of windows the model, as it is at this
update, imagines the window from its real first frame; it then sees those frames, and must still predict the
real one. No gradient goes through the imagining.

Source: Bengio et al. 2015 (arXiv:1506.03099) for own outputs as inputs of training; Huang et al. 2025
(arXiv:2506.08009) for video diffusion.
"""

from dataclasses import replace

import torch

from daemon.learning.errors import LearningError
from daemon.learning.world_model.latents import LatentWindows
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.objective import OwnContext
from daemon.learning.world_model.sampling import FrameSampler


class OwnContextInvalid(LearningError):
    """A share of windows that is none, or a way of forcing that has no context of its own."""

    code = "own_context_invalid"

    def __init__(self, *, share: float, forcing: str) -> None:
        super().__init__(
            f"own_context should be a share from 0 to 1, above 0 with teacher forcing only; found {share} "
            f"with {forcing} forcing. Correct the training's config."
        )


def own_context(
    world_model: WorldModel, windows: LatentWindows, *, share: float, generator: torch.Generator
) -> OwnContext | None:
    """Imagine a share of these windows with one denoise step per frame.

    Args:
        windows: on the world model's device.
        share: of the windows; what is left of a whole one is one window more, as often as that.
        generator: draws which windows, and the seeds of their noise; nothing where the share is 0.

    Returns:
        None where no window shows its own context.
    """
    if not share:
        return None
    count = int(share * len(windows) + float(torch.rand((), generator=generator)))
    which = torch.randperm(len(windows), generator=generator)[:count]
    seeds = torch.randint(2**62, (count,), generator=generator).tolist()
    if not count:
        return None
    rows = which.to(windows.latents.device)
    sampling = replace(world_model.sampling, denoise_steps=1, horizon=1, guidance=1.0)
    sampler = FrameSampler(world_model, sampling=sampling)
    sampler.start(windows.latents[rows, 0], seeds, paths=windows.paths[rows])
    frames = windows.latents.clone()
    frames[rows, 1:] = sampler.advance(windows.actions[rows]).to(frames.dtype)
    own = torch.zeros(len(windows), dtype=torch.bool)
    own[which] = True
    return OwnContext(frames=frames, windows=own)
