"""Episodes out as a LeRobotDataset v3.0, one in memory at a time.

A row is one action with the observation it was decided on. Observation T has no row: its picture and its
state lie in `_gymnastd`. `action` is what the policy asked for.

The format packs many episodes in a file, and such a file cannot be gone on with after a crash. So each
episode's pictures are encoded into a video of its own under `_unfinished`, and `close` puts the files
together without encoding: see `lerobot_files`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from storage.interchange import lerobot_layout as layout
from storage.interchange.errors import EpisodeUnfit
from storage.interchange.lerobot_files import put_together
from storage.interchange.lerobot_statistics import Levels
from storage.interchange.record import Record, write_side
from storage.interchange.video import ENCODER, VideoWriter
from storage.interchange.writer import UNFINISHED, Option, Part, Writer, Written, staged

KEYFRAMES: Final = 2  # a key frame at every second picture, so that any one is quickly reached
CRF: Final = 23  # h264 quality, as LeRobot writes it
MEGABYTE: Final = 1_000_000


class LeRobotWriter(Writer):
    """`data_bytes` and `video_bytes` are the sizes beyond which the next episode begins a new file."""

    format = layout.FORMAT
    version = 1

    def __init__(
        self,
        folder: Path,
        *,
        data_bytes: int = layout.DATA_MB * MEGABYTE,
        video_bytes: int = layout.VIDEO_MB * MEGABYTE,
    ) -> None:
        notes = {
            "action": "raw_action: what the policy asked for; executed_action is in _gymnastd",
            "last_observation": "its picture and state are in _gymnastd: a row is one action",
            "frames": f"h264, yuv420p, crf {CRF}",
        }
        options: dict[str, Option] = {"crf": CRF, "keyframes": KEYFRAMES, "encoder": ENCODER}
        limits = {"data_bytes": data_bytes, "video_bytes": video_bytes}
        super().__init__(folder, notes=notes, options={**options, **limits})
        self._limits = layout.Limits(**limits)
        self._size: tuple[int, int] | None = None  # width, height
        self._done: list[Written] = []

    def add(self, record: Record) -> Written:
        """Encode one episode's pictures but the last, and write its notes.

        Raises:
            EpisodeUnfit: another rate or picture size than the dataset's, or an odd side.
        """
        manifest, frames = record.episode.manifest, record.episode.frames
        size = self._checked_size(record)
        name, levels = f"{UNFINISHED}/{staged(manifest.episode_id)}", Levels()
        with VideoWriter(
            self._folder / name, size=size, fps=layout.FPS, crf=CRF, keyframes=KEYFRAMES
        ) as video:
            for t in range(manifest.T):
                picture = frames.decode(t)
                video.add(picture)
                levels.add(picture)
        written = Written(
            episode_id=manifest.episode_id,
            place=str(len(self.places)),
            parts=(Part(name=name), *write_side(self._folder, record, with_last=True)),
            facts={"size": list(size), "video_bytes": video.bytes, "levels": levels.state()},
        )
        self._take(written)
        return written

    def go_on(self, done: Sequence[Written]) -> None:
        """As every writer."""
        for each in done:
            self._take(each)

    def close(self, told: Callable[[int, int], None]) -> None:
        """Put the files of rows, the videos and everything under meta/ together."""
        size = self._size or (0, 0)
        put_together(self._folder, self._done, limits=self._limits, size=size, told=told)

    def _take(self, written: Written) -> None:
        width, height = written.facts["size"]
        self._size = (width, height)
        self.places[written.place] = written.episode_id
        self._done.append(written)

    def _checked_size(self, record: Record) -> tuple[int, int]:
        """Width and height, which are those of the whole dataset."""
        manifest, frames = record.episode.manifest, record.episode.frames
        if manifest.control_hz != layout.FPS:
            raise EpisodeUnfit(
                episode_id=manifest.episode_id, expected=f"{layout.FPS} Hz", found=f"{manifest.control_hz} Hz"
            )
        size = (frames.width, frames.height)
        if size == self._size:
            return size
        if self._size is not None or size[0] % 2 or size[1] % 2:
            wanted = "even sides" if self._size is None else f"{self._size[0]}x{self._size[1]} pixels"
            found = f"{size[0]}x{size[1]}"
            raise EpisodeUnfit(episode_id=manifest.episode_id, expected=wanted, found=found)
        return size
