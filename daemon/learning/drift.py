"""How far imagination drifts from what really happened, by how many steps it goes on.

The real actions of an episode are replayed from its real first frame and every imagined frame is compared
with the real one of the same moment. Nothing here judges; `trust.py` does.

Source: Wang et al. 2004 (DOI 10.1109/TIP.2003.819861) for SSIM.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daemon.learning.batch import Clip, NoWindow
from daemon.learning.grasps import GRIPPER
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.world_model.model import WorldModel

AT_ONCE = 64  # rollouts
BLUR, BLUR_WIDTH = 1.5, 11  # of SSIM's window, pixels
LUMINANCE, CONTRAST = 0.01**2, 0.03**2  # SSIM's constants, for pictures in [0, 1]
LATENTS = 2  # place of the latent error among what is compared
PERFECT_PSNR = 100.0  # what equal pictures get, in place of infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Means over episodes, by how many steps after the real first frame.

    Attributes:
        pixels: squared error of decoded pictures in [0, 1].
        psnr: peak signal to noise of the mean squared error, decibels.
        ssim: structural similarity, 1 for equal pictures.
        latents: squared error of latents, whose standard deviation is about 1.
        still: squared error of repeating the first real picture: of imagining that nothing moves.
        episodes: how many were long enough.
        latents_by_episode: of each episode in turn, mean over the steps told that it reaches.
    """

    pixels: dict[int, float]
    psnr: dict[int, float]
    ssim: dict[int, float]
    latents: dict[int, float]
    still: dict[int, float]
    episodes: dict[int, int]
    latents_by_episode: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Some episodes imagined together: latents [B, T + 1, c, h, w] of the longest one's length.

    That is rounded up to what the world model imagines at once. Of a shorter one the frames past its end mean
    nothing.
    """

    clips: Sequence[Clip]
    latents: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """Real episodes imagined again by one world model, and how far that drifted."""

    replays: tuple[Replay, ...]
    drift: Drift

    @property
    def clips(self) -> list[Clip]:
        return [clip for replay in self.replays for clip in replay.clips]


def rehearse(world_model: WorldModel, clips: Sequence[Clip], *, steps: int, seed: int) -> Rehearsal:
    """Imagine whole episodes once, for whoever wants to compare, judge or measure them.

    Args:
        steps: drift is told at every step up to this one, or to the end of the longest episode.

    Raises:
        ClipInvalid: a clip breaks its contract.
        NoWindow: there is no clip.
    """
    if not clips:
        raise NoWindow(frames=2, longest=0, clips=0)
    replays = tuple(replayed(world_model, clips, seed=seed))
    horizons = range(1, min(steps, max(clip.steps for clip in clips)) + 1)
    return Rehearsal(replays=replays, drift=drift_of(world_model, replays, horizons=horizons))


def replayed(
    world_model: WorldModel, clips: Sequence[Clip], *, seed: int, steps: int | None = None
) -> Iterator[Replay]:
    """Imagine episodes from their real first frames with their real actions.

    Args:
        seed: of the noise; episode i has seed + i, whatever else is imagined beside it.
        steps: stop after so many; None goes to the end of the longest.

    Raises:
        ClipInvalid: a clip breaks its contract; nothing was imagined.
    """
    for clip in clips:
        clip.validate()
    for start in range(0, len(clips), AT_ONCE):
        part = clips[start : start + AT_ONCE]
        length = max(clip.steps for clip in part)
        length = length if steps is None else min(length, steps)
        actions = torch.zeros(len(part), length, part[0].actions.shape[1])
        for row, clip in zip(actions, part, strict=True):
            reached = min(length, clip.steps)
            row[:reached] = clip.told[:reached]
            row[reached:, GRIPPER] = row[reached - 1, GRIPPER]  # what was held is not let go
        env = ImaginedEnv(world_model, seed=seed)
        seeds = range(seed + start, seed + start + len(part))
        env.reset(torch.stack([clip.frames[0] for clip in part]), seeds=seeds)
        env.replay(actions)
        yield Replay(clips=part, latents=env.latents())


def measure_drift(
    world_model: WorldModel, clips: Sequence[Clip], *, horizons: Sequence[int], seed: int
) -> Drift:
    """Imagine episodes that training has not seen and compare at these steps; `drift_of` the replays.

    Raises:
        ClipInvalid: a clip breaks its contract.
        NoWindow: no clip reaches the longest horizon.
    """
    longest = max((clip.steps for clip in clips), default=0)
    if longest < max(horizons):
        raise NoWindow(frames=max(horizons) + 1, longest=longest + 1, clips=len(clips))
    return drift_of(
        world_model, replayed(world_model, clips, seed=seed, steps=max(horizons)), horizons=horizons
    )


def drift_of(world_model: WorldModel, replays: Iterable[Replay], *, horizons: Sequence[int]) -> Drift:
    """Compare imagined with real frames at these steps; an episode counts for those that it reaches.

    A world model with a stride is compared at those of them that it imagines.

    Raises:
        NoWindow: it imagines none of them.
    """
    stride = world_model.stride
    horizons = [step for step in horizons if step % stride == 0]
    if not horizons:
        longest = max((clip.steps + 1 for replay in replays for clip in replay.clips), default=0)
        raise NoWindow(frames=stride + 1, longest=longest, clips=sum(len(replay.clips) for replay in replays))
    parts = [_measured(world_model, replay, horizons=horizons) for replay in replays]
    errors = torch.cat([part.errors for part in parts], dim=2)  # [4, horizons, episodes]
    reached = torch.cat([part.reached for part in parts], dim=1)  # [horizons, episodes]
    counts = reached.sum(1)
    means = errors.sum(2) / counts.clamp_min(1)
    pixels, ssim, latents, still = (dict(zip(horizons, mean.tolist(), strict=True)) for mean in means)
    own = errors[LATENTS].sum(0) / reached.sum(0).clamp_min(1)
    return Drift(
        pixels=pixels,
        psnr={horizon: psnr(error) for horizon, error in pixels.items()},
        ssim=ssim,
        latents=latents,
        still=still,
        episodes=dict(zip(horizons, counts.tolist(), strict=True)),
        latents_by_episode=tuple(own[reached.any(0)].tolist()),
    )


def psnr(squared_error: float) -> float:
    """Decibels of a mean squared error of pictures in [0, 1]."""
    if squared_error <= 10 ** (-PERFECT_PSNR / 10):
        return PERFECT_PSNR
    return float(-10 * torch.log10(torch.tensor(squared_error, dtype=torch.float64)))


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """SSIM of pictures in [0, 1], [B, 3, H, W] each: one number per pair, [B].

    Source: Wang et al. 2004, equation 13, with their Gaussian window of 11 pixels, channels on their own.
    """
    down, along = (_blurring(side, like=a) for side in a.shape[2:])
    blurred = down @ torch.stack((a, b, a * a, b * b, a * b)) @ along.T  # [5, B, 3, H - 10, W - 10]
    mean_a, mean_b = blurred[0], blurred[1]
    var_a, var_b = blurred[2] - mean_a**2, blurred[3] - mean_b**2
    together = blurred[4] - mean_a * mean_b
    light = (2 * mean_a * mean_b + LUMINANCE) / (mean_a**2 + mean_b**2 + LUMINANCE)
    structure = (2 * together + CONTRAST) / (var_a + var_b + CONTRAST)
    return (light * structure).flatten(1).mean(1)


def _blurring(side: int, *, like: Tensor) -> Tensor:
    """The matrix that blurs a line of `side` pixels where the window lies wholly within, [side - 10, side].

    The Gaussian window is a product of two lines: two products of matrices, many times as fast as its sums.
    """
    places = torch.arange(side, device=like.device, dtype=like.dtype)
    off = places - places[: side - BLUR_WIDTH + 1, None] - BLUR_WIDTH // 2
    weights = (-(off**2) / (2 * BLUR**2)).exp() * (off.abs() <= BLUR_WIDTH // 2)
    return weights / weights.sum(1, keepdim=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """Pixel error, SSIM, latent error and error of standing still, float64 [4, horizons, episodes].

    They are 0 where an episode ends before, which `reached`, bool [horizons, episodes], tells.
    """

    errors: Tensor
    reached: Tensor


def _measured(world_model: WorldModel, replay: Replay, *, horizons: Sequence[int]) -> _Measured:
    reached = torch.tensor([[clip.steps >= horizon for clip in replay.clips] for horizon in horizons])
    errors = torch.zeros(4, *reached.shape, dtype=torch.float64)
    for row, horizon in enumerate(horizons):
        kept = reached[row].nonzero().flatten().tolist()
        if kept:
            errors[:, row, kept] = _compared(world_model, replay, kept, horizon=horizon)
    return _Measured(errors=errors, reached=reached)


def _compared(world_model: WorldModel, replay: Replay, kept: Sequence[int], *, horizon: int) -> Tensor:
    """Squared pixel error, SSIM, squared latent error, error of standing still: [4, episodes]."""
    device = world_model.device
    real = torch.stack([replay.clips[place].frames[horizon] for place in kept]).to(device)
    first = torch.stack([replay.clips[place].frames[0] for place in kept]).to(device)
    latents = replay.latents[list(kept), horizon]
    pictures = world_model.decode(latents) / 255
    parts = (
        _squared(pictures, real / 255),
        similarity(pictures, real / 255),
        _squared(latents, world_model.encode(real)),
        _squared(first / 255, real / 255),
    )
    return torch.stack(parts).double().cpu()


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error of each item, [B]."""
    return (a - b).square().flatten(1).mean(1)
