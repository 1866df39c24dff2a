"""From stored episodes to what learning learns from: pictures decoded and shrunk, latents, actions.

Pictures and latents are cached (`storage.array_cache`): an episode is decoded once per size, and encoded once
per autoencoder and precision. Its blobs stay the truth and are checked whenever it is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sqlalchemy.orm import Session
from torch import Tensor

from daemon.learning.batch import IMAGE_SIZE, Clip, fitted, resize_frames
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.world_model.latents import LatentClip, LatentClips, emphasis_of, world_actions
from daemon.learning.world_model.model import WorldModel
from daemon.phases.confining import confines_of, told_of
from daemon.phases.context import PhaseContext
from robot_bridge.episode import Episode
from robot_bridge.frames import FrameBlob
from storage import episodes, labels
from storage.array_cache import ArrayCache
from storage.blobs import BlobStore
from storage.tables import EpisodeRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Where episodes are read from: blobs, and arrays made from them before."""

    blobs: BlobStore
    cache: ArrayCache


def shelf_of(context: PhaseContext) -> Shelf:
    """Where a phase reads episodes from."""
    return Shelf(blobs=context.blobs, cache=ArrayCache(context.settings.data_dir / "cache"))


def succeeded(session: Session, rows: Sequence[EpisodeRow]) -> list[EpisodeRow]:
    """Those of the episodes that count as successes; nothing is decoded for that."""
    verdicts = labels.effective_labels(session, [row.id for row in rows])
    return [row for row in rows if row.id in verdicts and verdicts[row.id].success]


def load_clips(
    session: Session, shelf: Shelf, rows: Sequence[EpisodeRow], *, size: int = IMAGE_SIZE
) -> list[Clip]:
    """The clips of these episodes, each with its effective label.

    Args:
        size: pixels on a side of the pictures.

    Raises:
        StorageError: a blob is missing or corrupt; nothing is skipped silently.
        ClipInvalid: an episode's arrays break the clip's contract.
    """
    verdicts = labels.effective_labels(session, [row.id for row in rows])
    clips = []
    for row in rows:
        episode = episodes.load(session, shelf.blobs, row.id)
        frames = shelf.cache.get(f"frames-{size}", row.manifest_sha256, partial(shrunk, episode.frames, size))
        label = verdicts.get(row.id)
        clips.append(clip_of(episode, frames, success=None if label is None else label.success))
    return clips


def shrunk(frames: FrameBlob, size: int) -> NDArray[np.uint8]:
    """Every picture of an episode, uint8 [T + 1, 3, size, size]."""
    pictures = [resize_frames(frames.decode(t)[None], size) for t in range(len(frames))]
    return torch.cat(pictures).numpy()


def clip_of(episode: Episode, frames: NDArray[np.uint8], *, success: bool | None) -> Clip:
    """One episode as tensors: frames uint8 [T + 1, 3, H, W], executed actions float32 [T, 7]."""
    confines = confines_of(episode)
    clip = Clip(
        frames=torch.from_numpy(frames),
        actions=torch.from_numpy(episode.steps.motion.copy()),
        instruction=episode.manifest.instruction,
        episode_id=episode.manifest.episode_id,
        success=success,
        confines=confines,
        asked=told_of(episode, confines),
    )
    clip.validate()
    return clip


def encoded(world_model: WorldModel, clip: Clip) -> NDArray[np.float16]:
    """Every latent of a clip, float16 [T + 1, c, h, w]."""
    latents: NDArray[np.float16] = world_model.encode(clip.frames).half().cpu().numpy()
    return latents


def load_latents(
    world_model: WorldModel,
    shelf: Shelf,
    *,
    clips: Sequence[Clip],
    rows: Sequence[EpisodeRow],
    judge: ClassifierJudge | None = None,
) -> LatentClips:
    """The clips' latents, mapped from files in half precision; encoded first where there are none yet.

    Args:
        judge: tells where in the pictures what an episode is about can be seen, so that errors there cost
            more; None, or one that has not learned to look: nothing is emphasized.
    """
    precision = str(world_model.precision).removeprefix("torch.")
    kind = f"latents-{world_model.autoencoder_digest()[:16]}-{world_model.image_size}-{precision}"
    found = []
    for clip, row in zip(clips, rows, strict=True):
        latents = shelf.cache.get(kind, row.manifest_sha256, partial(encoded, world_model, clip))
        found.append(
            LatentClip(
                latents=torch.from_numpy(latents),
                actions=world_actions(clip.told),
                episode_id=clip.episode_id,
                emphasis=emphasis_seen(judge, clip, grid=latents.shape[-1]),
            )
        )
    return LatentClips(tuple(found))


def emphasis_seen(judge: ClassifierJudge | None, clip: Clip, *, grid: int) -> Tensor | None:
    """Emphasis of the places where a judge sees what a clip is about, [T + 1, grid, grid]."""
    if judge is None or not judge.looks:
        return None
    shares = judge.subject_shares(fitted(clip.frames, judge.image_size), clip.instruction)
    return emphasis_of(F.interpolate(shares[None], size=(grid, grid), mode="area")[0])
