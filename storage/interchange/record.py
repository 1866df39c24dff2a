"""One episode on its way out of the store or into it, and the folder `_gymnastd` that goes along.

No format of others holds all that the store knows. What is missing there lies in `_gymnastd`: per episode
ID.json (manifest, held-out flag, every verdict) and ID.npz (all step arrays, exact). The format's own numbers
are compared with it on the way in. A format that drops the last observation gets ID.last.jpg too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from robot_bridge.episode import Episode, EpisodeHeader, Manifest, assemble, parse_manifest
from robot_bridge.errors import RobotBridgeError
from robot_bridge.frames import FrameBlob
from robot_bridge.steps import StepArrays
from storage.interchange.errors import DatasetInvalid
from storage.interchange.writer import Part
from storage.labels import Verdict

F32: TypeAlias = NDArray[np.float32]

SIDE_FOLDER: Final = "_gymnastd"
SCHEMA: Final = "gymnastd-episode/1"
SOURCE: Final = "source_sha256"  # key of a manifest's metadata: the digest of what it was made from


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """An episode with what the store knows of it beside the manifest: held out or not, every verdict."""

    episode: Episode
    held_out: bool = False
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An episode in a dataset that was not read yet. `digest` is the same as long as its source is."""

    episode_id: str
    digest: str
    read: Callable[[], Record]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """What `_gymnastd` says about one episode."""

    manifest: Manifest
    steps: StepArrays
    held_out: bool
    verdicts: tuple[Verdict, ...]
    last_jpeg: bytes | None


def write_side(folder: Path, record: Record, *, with_last: bool = False) -> tuple[Part, ...]:
    """Put down what the format does not hold, and name it; `with_last` adds observation T's picture."""
    manifest = record.episode.manifest
    side = folder / SIDE_FOLDER
    side.mkdir(exist_ok=True)
    tree = {
        "schema": SCHEMA,
        "manifest": manifest.model_dump(mode="json", by_alias=True),
        "held_out": record.held_out,
        "labels": [_label(each) for each in record.verdicts],
    }
    files = {
        "json": json.dumps(tree, indent=1, sort_keys=True, allow_nan=False).encode(),
        "npz": record.episode.steps.to_npz(),
    }
    if with_last:
        files["last.jpg"] = record.episode.frames.jpeg(manifest.T)
    for suffix, content in files.items():
        (side / f"{manifest.episode_id}.{suffix}").write_bytes(content)
    return tuple(Part(name=f"{SIDE_FOLDER}/{manifest.episode_id}.{suffix}") for suffix in files)


def read_side(folder: Path, episode_id: str) -> Side:
    """Read back what `write_side` put down.

    Raises:
        DatasetInvalid: a file is missing or not what it was.
    """
    path = folder / SIDE_FOLDER / f"{episode_id}.json"
    last = path.with_suffix(".last.jpg")
    try:
        tree = json.loads(path.read_bytes())
        if tree["schema"] != SCHEMA:
            raise DatasetInvalid(path=path, expected=SCHEMA, found=str(tree["schema"]))
        return Side(
            manifest=parse_manifest(json.dumps(tree["manifest"])),
            steps=StepArrays.from_npz(path.with_suffix(".npz").read_bytes()),
            held_out=bool(tree["held_out"]),
            verdicts=tuple(_verdict(each) for each in tree["labels"]),
            last_jpeg=last.read_bytes() if last.is_file() else None,
        )
    except (OSError, ValueError, KeyError, TypeError, RobotBridgeError) as error:
        raise DatasetInvalid(path=path, expected="the notes of an episode", found=str(error)) from error


def restored(side: Side, frames: FrameBlob, *, codec: str) -> Record:
    """The record as it left, with pictures that came back through `codec`.

    Where they are the very same bytes, so is the episode; where not, its metadata tells what it was.
    """
    fields = {name: getattr(side.manifest, name) for name in EpisodeHeader.model_fields}
    header = EpisodeHeader(**fields)
    episode = assemble(header, steps=side.steps, frames=frames)
    if episode.digest != side.manifest.digest:
        told = {**header.metadata, SOURCE: side.manifest.digest, "frames": codec}
        episode = assemble(header.model_copy(update={"metadata": told}), steps=side.steps, frames=frames)
    return Record(episode=episode, held_out=side.held_out, verdicts=side.verdicts)


def require_equal(path: Path, thing: str, *, told: F32, found: F32, tolerance: float = 0.0) -> None:
    """Hold the numbers of a format against those that `_gymnastd` told.

    Raises:
        DatasetInvalid: another shape, or a number that differs by more than `tolerance`.
    """
    if told.shape != found.shape:
        raise DatasetInvalid(path=path, expected=f"{thing} {list(told.shape)}", found=str(list(found.shape)))
    apart = np.abs(told.astype(np.float64) - found)
    if not (apart <= tolerance).all():
        row = int(np.argwhere(~(apart <= tolerance))[0][0])
        expected = f"{thing} {told[row].tolist()} in row {row}, as {SIDE_FOLDER} says"
        raise DatasetInvalid(path=path, expected=expected, found=str(found[row].tolist()))


def _label(verdict: Verdict) -> dict[str, Any]:
    return {
        "success": verdict.success,
        "source": verdict.source,
        "judge": verdict.judge,
        "answer": verdict.answer,
        "confidence": verdict.confidence,
        "at": verdict.at.astimezone(UTC).isoformat(),
    }


def _verdict(tree: dict[str, Any]) -> Verdict:
    return Verdict(**{**tree, "at": datetime.fromisoformat(tree["at"])})
