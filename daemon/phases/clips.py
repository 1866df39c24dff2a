"""From stored episodes to what learning learns from: pictures decoded and shrunk, actions as executed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sqlalchemy.orm import Session

from daemon.learning.batch import Clip, resize_frames
from robot_bridge.episode import Episode
from storage import episodes
from storage.blobs import BlobStore
from storage.tables import EpisodeRow


def clip_of(episode: Episode, *, success: bool | None) -> Clip:
    """One episode as tensors: frames uint8 [T+1, 3, 64, 64], executed actions float32 [T, 7]."""
    clip = Clip(
        frames=torch.cat([resize_frames(episode.frames.decode(t)[None]) for t in range(len(episode.frames))]),
        actions=torch.from_numpy(episode.steps.motion.copy()),
        instruction=episode.manifest.instruction,
        episode_id=episode.manifest.episode_id,
        success=success,
    )
    clip.validate()
    return clip


def load_clips(session: Session, blobs: BlobStore, rows: Sequence[EpisodeRow]) -> list[Clip]:
    """The clips of these episodes, each with its effective label.

    Raises:
        StorageError: a blob is missing or corrupt; nothing is skipped silently.
        ClipInvalid: an episode's arrays break the clip's contract.
    """
    clips = []
    for row in rows:
        label = episodes.effective_label(session, row.id)
        episode = episodes.load(session, blobs, row.id)
        clips.append(clip_of(episode, success=None if label is None else label.success))
    return clips
