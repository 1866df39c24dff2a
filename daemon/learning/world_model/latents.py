"""Clips as the transformer sees them: encoded once, then cut into windows again and again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from daemon.learning.batch import Clip
from daemon.learning.errors import BadTensor
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.path import PATH_DIM
from daemon.learning.world_model.slots import path_along
from robot_bridge.conventions import to_world_model_action

ACTION_DIM = 7
SUBJECT_WEIGHT = 0.4  # of what all other places of a frame cost together
MOST_EMPHASIS = 40.0  # of one place
LEAST_SEEN = 1e-3  # of a picture, over an episode; an eggplant of the simulated cell is 0.016


@dataclass(frozen=True, kw_only=True)
class LatentClip:
    """One encoded episode or a part of one.

    Attributes:
        latents: [T + 1, c, h, w], maybe in half precision.
        actions: float32 [T, 10].
        path: sum of the episode's moves before the first of these actions, float32 [6]; zeros for whole ones.
        emphasis: what an error at each place costs more than elsewhere, [T + 1, h, w]; None: nothing more.
        odds: how much likelier its windows are drawn than others'.
    """

    latents: Tensor
    actions: Tensor
    episode_id: str
    path: Tensor = field(default_factory=lambda: torch.zeros(PATH_DIM))
    emphasis: Tensor | None = None
    odds: float = 1.0

    @cached_property
    def _paths(self) -> Tensor:
        """The path at every frame, [T + 1, 6]: windows are cut again and again."""
        return path_along(self.actions[None], self.path[None])[0]

    def path_at(self, frame: int) -> Tensor:
        """Sum of the episode's moves up to this frame, [6]."""
        return self._paths[frame]

    def weights(self, begin: int, end: int) -> Tensor:
        """What an error at each place of frames `begin` to `end` costs, [F, h, w]."""
        if self.emphasis is None:
            return torch.ones(end - begin, *self.latents.shape[2:])
        return 1 + self.emphasis[begin:end].float()

    def part(self, begin: int, end: int) -> "LatentClip":
        """Frames `begin` to `end`, the last not included, and the actions between them."""
        return replace(
            self,
            latents=self.latents[begin:end],
            actions=self.actions[begin : end - 1],
            path=self.path_at(begin),
            emphasis=None if self.emphasis is None else self.emphasis[begin:end],
        )


@dataclass(frozen=True, slots=True)
class LatentClips:
    """Encoded episodes, in the order given."""

    clips: tuple[LatentClip, ...] = ()

    def __len__(self) -> int:
        return len(self.clips)

    def __add__(self, other: "LatentClips") -> "LatentClips":
        return LatentClips(self.clips + other.clips)

    def long_enough(self, frames: int) -> tuple["LatentClips", tuple[str, ...]]:
        """The clips that hold a window of `frames`, and the episode ids of those that do not."""
        kept = tuple(clip for clip in self.clips if len(clip.latents) >= frames)
        return LatentClips(kept), tuple(c.episode_id for c in self.clips if len(c.latents) < frames)

    def movement(self) -> Tensor:
        """Mean variance along time at each place, [h, w]."""
        return torch.stack([clip.latents.float().var(dim=0).mean(0) for clip in self.clips]).mean(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentWindows:
    """Windows of episodes.

    Attributes:
        latents: [B, F, c, h, w].
        actions: between them, [B, F - 1, 10 · stride]; those in row f were executed from frame f on.
        paths: sum of the episode's moves before the first of these actions, [B, 6].
        weights: what an error at each place costs, [B, F, h, w]; 1 where nothing is said of it.
        episode_ids: where each was cut from.
    """

    latents: Tensor
    actions: Tensor
    paths: Tensor
    weights: Tensor
    episode_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.latents)

    def parts(self, count: int) -> Iterator["LatentWindows"]:
        """At most so many parts of about one size, in order."""
        size = -(-len(self) // count)
        for first in range(0, len(self), size):
            own = slice(first, first + size)
            yield LatentWindows(
                latents=self.latents[own],
                actions=self.actions[own],
                paths=self.paths[own],
                weights=self.weights[own],
                episode_ids=self.episode_ids[own],
            )

    def to(self, device: torch.device) -> "LatentWindows":
        """The same on this device."""
        return replace(
            self,
            latents=self.latents.to(device),
            actions=self.actions.to(device),
            paths=self.paths.to(device),
            weights=self.weights.to(device),
        )


def encode_clips(world_model: WorldModel, clips: Sequence[Clip]) -> LatentClips:
    """Encode every frame once.

    Raises:
        ClipInvalid: a clip breaks its contract; nothing is returned.
    """
    for clip in clips:
        clip.validate()
    return LatentClips(tuple(_encoded(world_model, clip) for clip in clips))


def _encoded(world_model: WorldModel, clip: Clip) -> LatentClip:
    latents = world_model.encode(clip.frames).cpu()
    return LatentClip(
        latents=latents,
        actions=world_actions(clip.told),
        episode_id=clip.episode_id,
        emphasis=emphasis_on(clip, grid=latents.shape[-1]),
    )


def emphasis_on(clip: Clip, *, grid: int) -> Tensor | None:
    """Emphasis of the places that show what a clip's task is about, where the clip marks it."""
    if clip.subject is None:
        return None
    return emphasis_of(adaptive_avg_pool2d(clip.subject.float(), grid))


def emphasis_of(shares: Tensor) -> Tensor | None:
    """Emphasis of places by the share of each that shows the subject, half precision [T + 1, grid, grid].

    An eggplant is a hundredth of a picture and so of its squared error: a model that loses it is hardly worse
    by that measure. So a place counts more by the share of it that shows the subject. Over an episode that
    comes to SUBJECT_WEIGHT of a frame's own weight on average, whether the subject is large or small.

    Args:
        shares: [T + 1, grid, grid] in [0, 1].

    Returns:
        None where the subject is as good as nowhere to be seen.
    """
    seen = float(shares.mean())
    if seen < LEAST_SEEN:
        return None
    return (shares * (SUBJECT_WEIGHT / seen)).clamp(max=MOST_EMPHASIS).half()


def world_actions(actions: Tensor) -> Tensor:
    """World-model actions [..., 10] of bridge_v2 actions [..., 7].

    Raises:
        BadTensor: another last axis, or numbers that are not finite.
    """
    if actions.ndim == 0 or actions.shape[-1] != ACTION_DIM or not bool(actions.isfinite().all()):
        found = f"{list(actions.shape)}, finite: {bool(actions.isfinite().all())}"
        raise BadTensor(name="actions", expected=f"finite [..., {ACTION_DIM}]", found=found)
    return torch.from_numpy(to_world_model_action(actions.detach().cpu().numpy()))
