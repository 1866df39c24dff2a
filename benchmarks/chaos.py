"""Does the loop survive kill -9 of anything at any time, and a network that goes away?

    python -m benchmarks.chaos --minutes 20

Small iterations run one after the other on a simulated cell, half of the time on SQLite, half on PostgreSQL,
while serve, worker, station and database are killed with SIGKILL at random moments and the station's network
is cut. Every part that is killed is started again at once. When the time is over the lab is left in peace
until the last iteration has ended. Printed per database: kills; iterations by how they ended; episodes that
had a row and have none now; slots of an iteration with more than one valid episode; phase runs that are not
over; episodes and checkpoints whose digests are wrong; seconds from a kill until something moved again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from benchmarks.chaos_lab import ChaosLab, chaos_lab
from daemon.client import DaemonClient
from daemon.errors import DaemonError
from robot_bridge.errors import RobotBridgeError
from storage import checkpoints, episodes
from storage.errors import StorageError
from storage.tables import CheckpointRow, EpisodeRow, IterationRow, PhaseRunRow

SPEC: dict[str, Any] = {
    "steps": 10,
    "tasks": ["open_drawer", "close_drawer"],
    "collect": {"episodes_per_task": 3, "held_out_every": 3},
    "world_model": {"updates": 3, "batch": 2},
    "judge": {"updates": 2},
    "policy": {"updates": 2, "groups": 2, "group_size": 2, "epochs": 1},
}
PAUSE_S = (5.0, 25.0)  # between two blows: iterations get through, if seldom untouched
CUT_S = (1.0, 8.0)
LOOK_EVERY_S = 0.2
PEACE_S = 300.0  # for what is unfinished when the blows end
OVER = {"finished", "failed", "cancelled"}
RUN_OVER = {"finished", "failed", "abandoned", "skipped"}


@dataclass(slots=True, kw_only=True)
class Watch:
    """What was seen while the blows fell."""

    blows: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    recoveries_s: list[float] = field(default_factory=list)
    pending: tuple[float, datetime, Any] | None = None  # a blow that nothing has followed yet
    stop: threading.Event = field(default_factory=threading.Event)  # nothing new is asked for
    over: threading.Event = field(default_factory=threading.Event)  # nothing is looked at any more


def ask_for_iterations(lab: ChaosLab, watch: Watch) -> None:
    """Ask for one iteration after the other; what is refused or not answered is asked for again."""
    number, url = 0, f"http://127.0.0.1:{lab.servers['serve'].port}"
    while not watch.stop.is_set():
        try:
            client = DaemonClient(url)
            asked = client.request_iteration({**SPEC, "seed": number}, idempotency_key=f"chaos-{number}")
            while not watch.stop.is_set() and client.iteration(asked["number"])["state"] not in OVER:
                watch.stop.wait(LOOK_EVERY_S)
            number += 1
        except DaemonError:
            watch.stop.wait(LOOK_EVERY_S)


def look(lab: ChaosLab, watch: Watch) -> None:
    """Note every episode that has a row, and whether anything moved since the last blow."""
    while not watch.over.wait(LOOK_EVERY_S):
        try:
            with lab.database.read() as session:
                watch.seen.update(session.scalars(sa.select(EpisodeRow.id)))
                if watch.pending is not None and moved(lab, since=watch.pending):
                    watch.recoveries_s.append(time.monotonic() - watch.pending[0])
                    watch.pending = None
        except DBAPIError:
            lab.database.dispose()  # the server behind these connections is gone


def marks(lab: ChaosLab) -> dict[str, int]:
    """What only grows while the loop moves."""
    with lab.database.read() as session:
        finished = sa.select(sa.func.count()).where(PhaseRunRow.state == "finished")
        return {
            "episodes": session.scalar(sa.select(sa.func.count()).select_from(EpisodeRow)) or 0,
            "finished": session.scalar(finished) or 0,
        }


def moved(lab: ChaosLab, *, since: tuple[float, datetime, Any]) -> bool:
    """Whether an episode came in or a phase ended since, or a phase that runs has told of progress."""
    _, at, before = since
    if before is None or marks(lab) != before:
        return before is not None
    with lab.database.read() as session:
        running = sa.select(PhaseRunRow.progress).where(
            PhaseRunRow.state == "running", PhaseRunRow.started_at > at, PhaseRunRow.progress > 0
        )
        return session.scalars(running.limit(1)).first() is not None


def strike(lab: ChaosLab, watch: Watch, *, rng: random.Random) -> None:
    """One blow, and the part is brought back."""
    kinds = ["serve", "worker", "worker", "station", "network"] + ["database"] * (lab.postgres is not None)
    kind = rng.choice(kinds)
    watch.blows[kind] += 1
    try:
        before = marks(lab)
    except DBAPIError:
        before = None
    begun, at = time.monotonic(), datetime.now(UTC)
    if kind == "network":
        with lab.line.cut():
            watch.stop.wait(rng.uniform(*CUT_S))
    else:
        lab.kill(kind)
        lab.bring_back(kind)
    if watch.pending is None:
        watch.pending = (begun, at, before)


def in_peace(lab: ChaosLab) -> None:
    """Wait until no iteration is unfinished, or say which one is."""
    deadline = time.monotonic() + PEACE_S
    while time.monotonic() < deadline:
        with lab.database.read() as session:
            if not session.scalars(sa.select(IterationRow.id).where(IterationRow.state.not_in(OVER))).first():
                return
        time.sleep(LOOK_EVERY_S)


def account(lab: ChaosLab, watch: Watch) -> dict[str, Any]:
    """What is lost, doubled, unfinished or damaged; all of it ought to be zero."""
    with lab.database.read() as session:
        rows = list(session.scalars(sa.select(EpisodeRow)))
        slots = Counter(
            (row.iteration_id, json.loads(row.manifest)["metadata"]["slot"])
            for row in rows
            if row.valid_for_policy_eval
        )
        damaged = sum(not readable(lambda row=row: episodes.load(session, lab.blobs, row.id)) for row in rows)
        kept = list(session.scalars(sa.select(CheckpointRow)))
        wrong = sum(not sound(lab, row) for row in kept)
        states = Counter(session.scalars(sa.select(IterationRow.state)))
        open_runs = [run for run in session.scalars(sa.select(PhaseRunRow)) if run.state not in RUN_OVER]
        errors = Counter(session.scalars(sa.select(IterationRow.error_code)))
    errors.pop(None, None)
    return {
        "kills": sum(count for kind, count in watch.blows.items() if kind != "network"),
        "network cuts": watch.blows["network"],
        "blows": dict(watch.blows),
        "iterations": dict(states),
        "reasons of failed ones": dict(errors),
        "episodes": len(rows),
        "acknowledged episodes lost": len(watch.seen - {row.id for row in rows}),
        "episodes duplicated": sum(count - 1 for count in slots.values()),
        "runs not in a terminal state": len(open_runs),
        "episodes damaged": damaged,
        "checkpoints": len(kept),
        "checkpoints failing their digest": wrong,
        "time to recover p50/p95 s": spread(watch.recoveries_s),
    }


def readable(read: Any) -> bool:
    try:
        read()
    except (StorageError, RobotBridgeError):
        return False
    return True


def sound(lab: ChaosLab, row: CheckpointRow) -> bool:
    """Whether a checkpoint's file is there and has the digest of its row."""
    try:
        checkpoints.path(row, lab.blobs)
        return lab.blobs.found_digest(row.sha256) == row.sha256
    except (StorageError, OSError):
        return False


def spread(times: Sequence[float]) -> str:
    if len(times) < 2:
        return " / ".join(f"{time_s:.1f}" for time_s in times) or "nothing to recover from"
    cuts = quantiles(times, n=20)
    return f"{cuts[9]:.1f} / {cuts[18]:.1f} ({len(times)} blows)"


def chaos(folder: Path, *, minutes: float, postgres: bool, seed: int) -> dict[str, Any]:
    """One lab, so many minutes of blows, then peace; what became of it."""
    rng, watch = random.Random(seed), Watch()
    with chaos_lab(folder, postgres=postgres, cell_seed=5) as lab:
        threads = [threading.Thread(target=work, args=(lab, watch)) for work in (ask_for_iterations, look)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60 * minutes
        try:
            while time.monotonic() < deadline:
                watch.stop.wait(rng.uniform(*PAUSE_S))
                strike(lab, watch, rng=rng)
            watch.stop.set()
            in_peace(lab)
        finally:
            watch.stop.set()
            watch.over.set()
            for thread in threads:
                thread.join()
        return account(lab, watch)


ZEROS = (
    "acknowledged episodes lost",
    "episodes duplicated",
    "runs not in a terminal state",
    "episodes damaged",
    "checkpoints failing their digest",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="of blows, all databases together")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), help="only this one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a folder that keeps logs and data")
    asked = parser.parse_args(arguments)
    wanted = [asked.database] if asked.database else ["sqlite", "postgresql"]
    root = asked.out or Path(tempfile.mkdtemp(prefix="gymnastd-chaos-"))
    faults = 0
    for name in wanted:
        found = chaos(
            root / name,
            minutes=asked.minutes / len(wanted),
            postgres=name == "postgresql",
            seed=asked.seed,
        )
        print(name)
        for what, value in found.items():
            print(f"  {what:34} {value}")
        faults += sum(found[what] for what in ZEROS)
    print("nothing lost, doubled, left open or damaged" if not faults else f"{faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
