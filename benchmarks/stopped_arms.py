"""What a station's limits cut of a policy's moves, and how the episodes ended in which they did.

    python -m benchmarks.stopped_arms --data DIR [--policy ID]

DIR is a daemon's data directory with simulated episodes. Printed for each task and each stage of the safety
pipeline that ever acted (`robot_bridge.safety`): steps an episode that it cut, and successes of the episodes
with such a step beside those without one. A stage whose episodes fail is something that a policy has to learn
to stay clear of, and that its imagination has to know of.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot_bridge.safety import STAGES
from storage import episodes, labels, replay
from storage.blobs import BlobStore
from storage.db import Database, default_url
from storage.replay import EpisodeQuery

Ended = tuple[NDArray[np.uint32], bool]  # flags [T] of an episode, and whether it succeeded


def recorded(data: Path, policy: str | None) -> dict[str, list[Ended]]:
    """The labelled episodes of a policy, or of all, by task."""
    database, blobs = Database(default_url(data)), BlobStore(data / "blobs")
    found: dict[str, list[Ended]] = {}
    with database.read() as session:
        rows = replay.select(session, EpisodeQuery(origin="collect"))
        said = labels.effective_labels(session, [row.id for row in rows])
        for row in rows:
            label = said[row.id].success if row.id in said else None
            if label is not None and policy in (None, row.checkpoint_id):
                flags = episodes.load(session, blobs, row.id).steps.flags
                found.setdefault(row.task_id, []).append((flags, label))
    return found


def told(task: str, ended: Sequence[Ended]) -> None:
    success = np.array([label for _, label in ended])
    print(f"{task}: {success.sum()} of {len(success)}")
    for stage, bit in STAGES.items():
        cut = np.array([int((flags & bit > 0).sum()) for flags, _ in ended])
        if not cut.any():
            continue
        met, clear = success[cut > 0], success[cut == 0]
        print(
            f"  {stage}: {cut.mean():.2f} steps an episode; "
            f"{met.sum()} of {len(met)} with such a step, {clear.sum()} of {len(clear)} without"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--policy", help="id of a checkpoint; without it the episodes of all policies")
    asked = options.parse_args()
    if not (asked.data / "gymnastd.sqlite3").is_file():
        options.error(f"--data {asked.data} is no data directory of a daemon: it holds no gymnastd.sqlite3")
    for task, ended in sorted(recorded(asked.data, asked.policy).items()):
        told(task, ended)


if __name__ == "__main__":
    main()
