"""Clips as the transformer sees them: encoded once, then cut into windows again and again."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daemon.learning.batch import Clip
from daemon.learning.errors import BadTensor
from daemon.learning.world_model.model import WorldModel
from robot_bridge.conventions import to_world_model_action

ACTION_DIM = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentClip:
    """One encoded episode: latents [T + 1, c, h, w], maybe in half precision; actions float32 [T, 10]."""

    latents: Tensor
    actions: Tensor
    episode_id: str


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
    """Latents [B, F, c, h, w], the actions between them [B, F - 1, 10], and where they were cut from."""

    latents: Tensor
    actions: Tensor
    episode_ids: tuple[str, ...]


def encode_clips(world_model: WorldModel, clips: Sequence[Clip]) -> LatentClips:
    """Encode every frame once.

    Raises:
        ClipInvalid: a clip breaks its contract; nothing is returned.
    """
    for clip in clips:
        clip.validate()
    return LatentClips(
        tuple(
            LatentClip(
                latents=world_model.encode(clip.frames).cpu(),
                actions=world_actions(clip.actions),
                episode_id=clip.episode_id,
            )
            for clip in clips
        )
    )


def world_actions(actions: Tensor) -> Tensor:
    """World-model actions [..., 10] of bridge_v2 actions [..., 7].

    Raises:
        BadTensor: another last axis, or numbers that are not finite.
    """
    if actions.ndim == 0 or actions.shape[-1] != ACTION_DIM or not bool(actions.isfinite().all()):
        found = f"{list(actions.shape)}, finite: {bool(actions.isfinite().all())}"
        raise BadTensor(name="actions", expected=f"finite [..., {ACTION_DIM}]", found=found)
    return torch.from_numpy(to_world_model_action(actions.detach().cpu().numpy()))
