"""Clips in the WorldGym format out of the store, and our own ones back in.

NAME.mp4 beside NAME.npz in train/, or in test/ where an episode is held out. Row i is what moved the robot at
frame i: `executed_action`, in world-model units, clipped and with a gripper of two states. That loses what
`_gymnastd` keeps. Clips of others are the business of `worldgym_clips`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from robot_bridge.conventions import WORLD_MODEL_ACTION_DIMS, to_world_model_action
from robot_bridge.frames import FrameBlob
from storage.interchange.errors import DatasetInvalid, DatasetUnsealed, EpisodeUnfit
from storage.interchange.record import (
    F32,
    Found,
    Record,
    read_side,
    require_equal,
    restored,
    write_side,
)
from storage.interchange.seal import Seal
from storage.interchange.video import ENCODER, VideoWriter
from storage.interchange.worldgym_clips import read_pictures, read_rows
from storage.interchange.writer import Option, Part, Writer, Written, begun

FORMAT: Final = "worldgym-clips"
VIDEO_FPS: Final = 20  # as the published clips have it, although their pictures are 5 Hz
KEYFRAMES: Final = 12
CRF: Final = 18  # h264 quality; a world model is trained on these pictures
OPEN: Final = -1.0  # the gripper of the last row, which nobody executes


class WorldGymWriter(Writer):
    """A pair of files belongs to one episode alone."""

    format = FORMAT
    version = 1

    def __init__(self, folder: Path) -> None:
        notes = {
            "action": "executed_action, or what it is predicted to be: xyz x35 clipped at 1.74, "
            "rotation x5.6 clipped at 1.39, gripper -1 open / +1 closed",
            "last_row": "zeros: the last frame has no action",
            "frames": f"h264, yuv420p, crf {CRF}, encoded at {VIDEO_FPS} frames per second",
            "split": "train; episodes that are held out are in test",
        }
        options: dict[str, Option] = {"crf": CRF, "keyframes": KEYFRAMES, "encoder": ENCODER}
        super().__init__(folder, notes=notes, options=options)

    def add(self, record: Record) -> Written:
        """Write one pair of files.

        Raises:
            EpisodeUnfit: pictures with an odd side, which h264 does not take.
        """
        manifest, frames = record.episode.manifest, record.episode.frames
        if frames.width % 2 or frames.height % 2:
            found = f"{frames.width}x{frames.height}"
            raise EpisodeUnfit(episode_id=manifest.episode_id, expected="even sides", found=found)
        place = f"{'test' if record.held_out else 'train'}/{len(self.places):09d}"
        names = (f"{place}.mp4", f"{place}.npz")
        size = (frames.width, frames.height)
        path = self._folder / names[0]
        with VideoWriter(path, size=size, fps=VIDEO_FPS, crf=CRF, keyframes=KEYFRAMES) as video:
            for t in range(len(frames)):
                video.add(frames.decode(t))
        np.savez(self._folder / names[1], arr_0=clip_rows(record))
        self.places[place] = manifest.episode_id
        parts = (*(Part(name=name) for name in names), *write_side(self._folder, record))
        return Written(episode_id=manifest.episode_id, place=place, parts=parts, facts={})


def clip_rows(record: Record) -> F32:
    """The array of a clip, float32 [T + 1, 10]."""
    last = np.zeros((1, WORLD_MODEL_ACTION_DIMS), np.float32)
    last[0, 6] = OPEN
    return np.concatenate([to_world_model_action(record.episode.steps.motion), last])


def find_worldgym(folder: Path, seal: Seal | None) -> Iterator[Found]:
    """Every clip of an export of ours, not read yet.

    Raises:
        DatasetUnsealed: it is none of ours, or not whole.
    """
    if seal is None:
        raise DatasetUnsealed(folder=folder, begun=begun(folder))
    for place, episode_id in sorted(seal.places.items()):
        digest = read_side(folder, episode_id).manifest.digest
        read = partial(_read_ours, folder, place, episode_id=episode_id)
        yield Found(episode_id=episode_id, digest=digest, read=read)


def _read_ours(folder: Path, place: str, *, episode_id: str) -> Record:
    side = read_side(folder, episode_id)
    mp4, npz = folder / f"{place}.mp4", folder / f"{place}.npz"
    for path in (mp4, npz):
        if not path.is_file():
            raise DatasetInvalid(
                path=path, expected="a .mp4 and a .npz of the same name", found="no such file"
            )
    rows, pictures = read_rows(npz), read_pictures(mp4)
    told = to_world_model_action(side.steps.motion)
    require_equal(npz, "action", told=told, found=rows[:-1], tolerance=1e-6)
    if len(pictures) != len(rows):
        found = f"{len(pictures)} pictures"
        raise DatasetInvalid(path=mp4, expected=f"{len(rows)} pictures, one per row", found=found)
    return restored(side, FrameBlob.of_images(pictures), codec="h264")
