"""Clips on disk between the stages of pretraining: one safetensors file per shard, no objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from daemon.learning.batch import Clip


def save_clips(path: Path, clips: Sequence[Clip]) -> None:
    """Write clips of equal length whole or not at all (temp file, then rename)."""
    tensors = {
        "frames": torch.stack([clip.frames for clip in clips]).contiguous(),  # [X, T+1, 3, H, W]
        "actions": torch.stack([clip.actions for clip in clips]),  # [X, T, 7]
        "asked": torch.stack([clip.told for clip in clips]),  # [X, T, 7]
        "success_by_frame": torch.stack([marks_of(clip) for clip in clips]),  # [X, T+1]
        "subject": torch.stack([subject_of(clip) for clip in clips]),  # [X, T+1, H, W]
    }
    names = [{"instruction": clip.instruction, "episode_id": clip.episode_id} for clip in clips]
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, temporary, metadata={"clips": json.dumps(names)})
    temporary.replace(path)


def load_clips(path: Path) -> list[Clip]:
    """The clips of one shard, in the order in which they were written."""
    with safe_open(path, framework="pt") as shard:
        names = json.loads(shard.metadata()["clips"])
        frames, actions, asked = (shard.get_tensor(name) for name in ("frames", "actions", "asked"))
        marks, subject = shard.get_tensor("success_by_frame"), shard.get_tensor("subject")
    return [
        Clip(
            frames=frames[i],
            actions=actions[i],
            asked=asked[i],
            success_by_frame=marks[i],
            success=bool(marks[i, -1]),
            subject=subject[i],
            **name,
        )
        for i, name in enumerate(names)
    ]


def marks_of(clip: Clip) -> torch.Tensor:
    """Whether each frame counts as success, bool [T+1]; unknown frames count as not."""
    if clip.success_by_frame is None:
        return torch.zeros(clip.steps + 1, dtype=torch.bool)
    return clip.success_by_frame


def subject_of(clip: Clip) -> torch.Tensor:
    """Pixels that show what the task is about, bool [T+1, H, W]; none where that is unknown."""
    if clip.subject is None:
        return torch.zeros(clip.frames[:, 0].shape, dtype=torch.bool)
    return clip.subject
