"""Which windows a training draws: pools of clips in stated shares, newer ones more often if wanted, never too
often the same.

*Uniform* is one pool. *Recency* is a pool with a half-life. *Mixture* is several pools: fresh, older and base
episodes. Everything follows from one generator, so a training that goes on from its state draws what it would
have drawn.

Source for samples per insert: Cassirer et al. 2021 (arXiv:2102.04736) section 3.3. Shares hold on average in
batches of any size by systematic sampling: Carpenter and others 1999 (DOI 10.1049/ip-rsn:19990255).
"""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from daemon.learning.batch import NoWindow, window_starts
from daemon.learning.errors import LearningError
from daemon.learning.world_model.latents import LatentClip, LatentClips, LatentWindows
from daemon.learning.world_model.slots import gathered


class SharesInvalid(LearningError):
    """Shares of pools that no batch can be divided by."""

    code = "shares_invalid"

    def __init__(self, *, shares: dict[str, float]) -> None:
        super().__init__(
            f"shares of pools should be at least 0 and one of them more, found {shares}. Correct the spec."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Clips that are drawn from together.

    Attributes:
        name: "fresh", "older", "base", …
        clips: oldest first.
        share: of all windows, relative to the other pools that have any.
        half_life: a clip so many places before the newest is drawn half as often; None: all alike.
        samples_per_insert: how often a frame may be drawn, on average over the pool, by whichever pool its
            episode is drawn from; None: no limit.
    """

    name: str
    clips: LatentClips
    share: float = 1.0
    half_life: float | None = None
    samples_per_insert: float | None = None


class WindowSource:
    """Windows of `frames` frames, `batch` at a time, from pools.

    With a stride a window shows every so many frames of its episode, from any of them on.

    Attributes:
        pools: those that hold a window, without the clips that are too short for one.
        left_out: episode ids of the clips that are too short.

    Raises:
        SharesInvalid: a negative share, or none above 0.
        NoWindow: no pool with a share holds a window.
    """

    def __init__(self, pools: Sequence[Pool], *, batch: int, frames: int, seed: int, stride: int = 1) -> None:
        if any(pool.share < 0 for pool in pools) or not any(pool.share > 0 for pool in pools):
            raise SharesInvalid(shares={pool.name: pool.share for pool in pools})
        self.stride, self.span = stride, span_of(frames, stride)
        fitting = [(pool, *pool.clips.long_enough(self.span)) for pool in pools]
        self.left_out = tuple(dict.fromkeys(name for _, _, short in fitting for name in short))
        self.pools = [replace(pool, clips=kept) for pool, kept, _ in fitting if len(kept) and pool.share]
        if not self.pools:
            lengths = [len(clip.latents) for pool in pools for clip in pool.clips.clips]
            raise NoWindow(frames=self.span, longest=max(lengths, default=0), clips=len(lengths))
        self.frames, self.batch = frames, batch
        whole = sum(pool.share for pool in self.pools)
        self.shares = [pool.share / whole for pool in self.pools]
        self.generator = torch.Generator().manual_seed(seed)
        self._weights = [_weights(pool) for pool in self.pools]

    @property
    def clips(self) -> LatentClips:
        """Every clip that may be drawn."""
        return sum((pool.clips for pool in self.pools), LatentClips())

    def updates_allowed(self, updates: int) -> int:
        """How many of these updates may be made before a pool would be drawn too often."""
        allowed = [updates]
        for pool in self.pools:
            if pool.samples_per_insert is not None:
                frames = sum(len(clip.latents) for clip in pool.clips.clips)
                drawn = self.batch * self.frames * self._share_of({c.episode_id for c in pool.clips.clips})
                allowed.append(max(1, int(pool.samples_per_insert * frames / drawn)))
        return min(allowed)

    def _share_of(self, episode_ids: Container[str]) -> float:
        """Of all windows, those of these episodes: an episode may be in several pools."""
        share = 0.0
        for pool, own, weights in zip(self.pools, self.shares, self._weights, strict=True):
            clips = pool.clips.clips
            places = torch.tensor([len(clip.latents) - self.span + 1.0 for clip in clips]).double()
            likely = places if weights is None else places * weights
            these = torch.tensor([clip.episode_id in episode_ids for clip in clips])
            share += own * float(likely[these].sum() / likely.sum())
        return share

    def draw(self) -> LatentWindows:
        """The next batch, pool after pool."""
        chosen: list[tuple[LatentClip, int]] = []
        counts = divided(self.batch, self.shares, by=float(torch.rand((), generator=self.generator)))
        for pool, count, weights in zip(self.pools, counts, self._weights, strict=True):
            if not count:
                continue
            clips = pool.clips.clips
            lengths = [len(clip.latents) for clip in clips]
            starts = window_starts(
                lengths, batch=count, frames=self.span, generator=self.generator, weights=weights
            )
            chosen += [(clips[which], at) for which, at in starts.tolist()]
        return cut(chosen, frames=self.frames, stride=self.stride)


def span_of(frames: int, stride: int) -> int:
    """How many frames of an episode a window of `frames` frames, `stride` apart, reaches over."""
    return (frames - 1) * stride + 1


def frames_within(length: int, stride: int) -> int:
    """How many frames, `stride` apart, the longest window in so many frames of an episode has."""
    return (length - 1) // stride + 1


def cut(places: Sequence[tuple[LatentClip, int]], *, frames: int, stride: int = 1) -> LatentWindows:
    """Windows of these clips from these frames on; each is one slice."""
    span = span_of(frames, stride)
    actions = torch.stack([clip.actions[at : at + span - 1] for clip, at in places])
    return LatentWindows(
        latents=torch.stack([clip.latents[at : at + span : stride] for clip, at in places]).float(),
        actions=gathered(actions, stride),
        paths=torch.stack([clip.path_at(at) for clip, at in places]),
        weights=torch.stack([clip.weights(at, at + span)[::stride] for clip, at in places]),
        episode_ids=tuple(clip.episode_id for clip, _ in places),
    )


def divided(count: int, shares: Sequence[float], *, by: float) -> list[int]:
    """`count` things in shares that add up to 1: each gets its exact part, rounded up or down.

    Args:
        by: in [0, 1), drawn by chance; then the mean of what each gets is its exact part.
    """
    ends = [round(count * end, 6) for end in accumulate(shares)]
    ends[-1] = count
    taken = [math.ceil(end - by) for end in ends]
    return [upper - lower for lower, upper in pairwise([0, *taken])]


def _weights(pool: Pool) -> Tensor | None:
    """How much likelier the windows of each clip are than others'; None: all alike."""
    odds = torch.tensor([clip.odds for clip in pool.clips.clips], dtype=torch.float64)
    if pool.half_life is not None:
        return odds * _recency(len(odds), pool.half_life)
    return None if bool((odds == 1).all()) else odds


def _recency(count: int, half_life: float) -> Tensor:
    """Weight of each of `count` clips, oldest first; the newest has 1."""
    ages = torch.arange(count - 1, -1, -1, dtype=torch.float64)
    return torch.as_tensor(0.5 ** (ages / half_life))
