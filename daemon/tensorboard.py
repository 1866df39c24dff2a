"""Curves as event files, one folder for each phase run, for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.curve_export import RunCurves
from storage.interchange.tensorboard import PREFIX, Scalar, write_events


@dataclass(frozen=True, slots=True)
class EventFiles:
    """A folder of event files. Each is made anew, and shows what there is by then."""

    folder: Path

    def write(self, curves: RunCurves) -> bool:
        place = self.folder / f"iteration-{curves.iteration:04d}" / curves.phase / f"attempt-{curves.attempt}"
        name = f"{PREFIX}.{int(curves.queued_at.timestamp())}.{curves.run_id}"
        write_whole(place, name, curves.scalars)
        return True

    def close(self) -> None:
        """Each file is whole already."""


def write_whole(folder: Path, name: str, scalars: Sequence[Scalar]) -> None:
    """An event file, whole or not at all: TensorBoard may be looking."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{os.getpid()}.partial"
    try:
        write_events(partial, scalars, begun=scalars[0].at)
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)
