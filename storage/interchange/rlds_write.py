"""Episodes out as an RLDS dataset that TFDS reads, one in memory at a time; TensorFlow is not needed.

An episode has T + 1 steps: the last one holds the last observation, a zero action and is_last. `action` is
what the policy asked for; `reward` is 1 at the action that brought success, where the verdict says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from robot_bridge.conventions import CONTROL_HZ
from storage.interchange import rlds_layout as layout
from storage.interchange.errors import EpisodeUnfit
from storage.interchange.record import Record, write_side
from storage.interchange.tf_example import Values, encode_example
from storage.interchange.tfrecord import write_record
from storage.interchange.writer import Part, Writer, Written
from storage.labels import SOURCES, Verdict

SHARD_BYTES: Final = 200_000_000  # a shard is closed once it is larger


class _Split:
    """The shards of one split; their names say how many there are, so they get them at the end."""

    def __init__(self, folder: Path, name: str, *, shard_bytes: int) -> None:
        self._folder, self._name, self._limit = folder, name, shard_bytes
        self._size = self.bytes = 0  # of the last shard, of all
        self.lengths: list[int] = []

    def write(self, content: bytes) -> Part:
        """Append a record; what a process that was killed left behind the last one is cut off."""
        if not self.lengths or self._size > self._limit:
            self._begin_shard()
        begin = self._size
        name = self._unnamed(len(self.lengths) - 1)
        with (self._folder / name).open("r+b" if begin else "wb") as file:
            file.truncate(begin)
            file.seek(begin)
            self._count(write_record(file, content))
        return Part(name=name, begin=begin, end=self._size)

    def go_on(self, part: Part) -> None:
        """A record that is there: the next one comes after it."""
        if part.begin == 0:
            self._begin_shard()
        self._count((part.end or 0) - part.begin)

    def name_shards(self) -> None:
        """Give the shards their names."""
        for number in range(len(self.lengths)):
            name = layout.shard_name(self._name, number, len(self.lengths))
            (self._folder / self._unnamed(number)).rename(self._folder / name)

    def take_names_back(self) -> None:
        """Undo `name_shards`, as far as it came."""
        for path in self._folder.glob(layout.shard_pattern(self._name)):
            path.rename(self._folder / self._unnamed(layout.shard_number(path.name)))

    def _begin_shard(self) -> None:
        self._size = 0
        self.lengths.append(0)

    def _count(self, written: int) -> None:
        self._size, self.bytes = self._size + written, self.bytes + written
        self.lengths[-1] += 1

    def _unnamed(self, number: int) -> str:
        return f"{layout.NAME}-{self._name}-{number:05d}.unfinished"


class RldsWriter(Writer):
    """A record is appended to the last shard of its split; a shard is closed once it is larger than told."""

    format = layout.FORMAT
    version = 1

    def __init__(self, folder: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
        notes = {
            "action": "raw_action: what the policy asked for; executed_action is in _gymnastd",
            "last_step": "the last observation with a zero action that was never executed",
            "frames": "jpeg, byte for byte as they were recorded",
            "split": "train; episodes that are held out are in test",
        }
        super().__init__(folder, notes=notes, options={"shard_bytes": shard_bytes})
        self._splits = {name: _Split(folder, name, shard_bytes=shard_bytes) for name in layout.SPLITS}
        self._size: tuple[int, int] | None = None  # width, height

    def add(self, record: Record) -> Written:
        """Append one episode.

        Raises:
            EpisodeUnfit: another rate or picture size than the dataset's.
        """
        manifest, frames = record.episode.manifest, record.episode.frames
        if manifest.control_hz != CONTROL_HZ:
            found = f"{manifest.control_hz} Hz"
            raise EpisodeUnfit(episode_id=manifest.episode_id, expected=f"{CONTROL_HZ} Hz", found=found)
        self._size = self._size or (frames.width, frames.height)
        if (frames.width, frames.height) != self._size:
            wanted, found = f"{self._size[0]}x{self._size[1]} pixels", f"{frames.width}x{frames.height}"
            raise EpisodeUnfit(episode_id=manifest.episode_id, expected=wanted, found=found)
        split = "test" if record.held_out else "train"
        shard = self._splits[split].write(encode_example(_features(record)))
        self.places[manifest.episode_id] = manifest.episode_id
        return Written(
            episode_id=manifest.episode_id,
            place=manifest.episode_id,
            parts=(shard, *write_side(self._folder, record)),
            facts={"split": split, "size": list(self._size)},
        )

    def reopen(self) -> None:
        """As every writer."""
        for split in self._splits.values():
            split.take_names_back()

    def go_on(self, done: Sequence[Written]) -> None:
        """As every writer."""
        super().go_on(done)
        for each in done:
            self._splits[each.facts["split"]].go_on(each.parts[0])
            width, height = each.facts["size"]
            self._size = (width, height)

    def close(self, told: Callable[[int, int], None]) -> None:
        """Name the shards and write the two heads."""
        for split in self._splits.values():
            split.name_shards()
        width, height = self._size or (0, 0)
        splits = {name: (each.bytes, each.lengths) for name, each in self._splits.items() if each.lengths}
        trees = {
            layout.FEATURES_FILE: layout.features_tree(width=width, height=height),
            layout.INFO_FILE: layout.info_tree(splits),
        }
        for name, tree in trees.items():
            (self._folder / name).write_text(json.dumps(tree, indent=4), encoding="utf-8")


def _features(record: Record) -> dict[str, Values]:
    """One episode as TFDS flattens it: every step's value one after the other."""
    episode, steps = record.episode, record.episode.steps
    count = steps.count + 1
    last = np.zeros(count, np.int64)
    last[-1] = 1
    first = last[::-1].copy()
    reward = np.zeros(count, np.float32)
    succeeded = _succeeded(record.verdicts)
    reward[-2] = float(succeeded)
    actions = np.concatenate([steps.raw_action, np.zeros((1, 7), np.float32)])
    return {
        layout.ACTIONS: actions.ravel(),
        layout.STATES: steps.state.ravel(),
        layout.PICTURES: [episode.frames.jpeg(t) for t in range(count)],
        layout.INSTRUCTIONS: [episode.manifest.instruction.encode()] * count,
        "steps/reward": reward,
        "steps/discount": np.ones(count, np.float32),
        "steps/is_first": first,
        "steps/is_last": last,
        "steps/is_terminal": last * int(succeeded),
        layout.EPISODE_ID: [episode.manifest.episode_id.encode()],
        layout.FILE_PATH: [f"{episode.manifest.station_id}/{episode.manifest.episode_id}".encode()],
    }


def _succeeded(verdicts: tuple[Verdict, ...]) -> bool:
    """What the verdict that counts says: the best source, of equals the newest."""
    answered = [(SOURCES.index(v.source), v) for v in verdicts if v.success is not None]
    if not answered:
        return False
    best = min(rank for rank, _ in answered)
    newest = max((v for rank, v in answered if rank == best), key=lambda verdict: verdict.at)
    return bool(newest.success)
