"""Rows of a database as a lab has after a thousand nights: for `rest_load`, brought in past the doors."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from daemon.spec import parse_spec
from storage import success_counts
from storage.canonical import json_digest
from storage.db import Database
from storage.phase_runs import PHASES
from storage.tables import (
    CheckpointRow,
    EpisodeRow,
    IterationRow,
    LabelRow,
    MetricSummaryRow,
    PhaseRunRow,
    Row,
    StationRow,
    TaskRow,
    TrialRow,
)

START = datetime(2025, 1, 1, tzinfo=UTC)
EVERY = timedelta(hours=8)  # an iteration
TASKS = ("open_drawer", "close_drawer", "put_eggplant_blue_sink", "put_eggplant_yellow_basket")
STATIONS = ("cell-1", "cell-2")
BATCH = 5000  # rows per insert
MANIFEST = json.dumps({"metadata": {"slot": "0"}, "filler": "x" * 1500})  # about what a manifest has
INVALID, UNLABELLED = 0.02, 0.01  # shares of episodes
METRICS = ("loss", "held_out", "clip_fraction", "approx_kl", "imagined_success")


def fill(database: Database, *, episodes: int, iterations: int, seed: int = 0) -> None:
    """Bring in so many rows, each iteration with two policies, three phases, a trial and its episodes."""
    chance = random.Random(seed)
    _insert(database, TaskRow, ({"id": t, "instruction": t, "registered_at": START} for t in TASKS))
    seen = {"description": {}, "first_seen_at": START, "last_seen_at": START}
    _insert(database, StationRow, ({"id": name, **seen} for name in STATIONS))
    _insert(database, IterationRow, map(_iteration, range(1, iterations + 1)))
    _insert(database, CheckpointRow, (_policy(number) for number in range(1, iterations + 2)))
    runs = [_run(number, phase) for number in range(1, iterations + 1) for phase in PHASES]
    _insert(database, PhaseRunRow, iter(runs))
    _insert(database, MetricSummaryRow, (_metric(run["id"], name) for run in runs for name in METRICS))
    _insert(database, TrialRow, map(_trial, range(1, iterations + 1)))
    per_iteration = max(1, episodes // iterations)
    numbers = range(per_iteration * iterations)
    _insert(database, EpisodeRow, (_episode(n, n // per_iteration + 1, chance) for n in numbers))
    _insert(database, LabelRow, (_label(n, chance) for n in numbers if chance.random() > UNLABELLED))
    with database.write() as session:
        success_counts.rebuild(session)
        session.execute(sa.text("ANALYZE"))


def beat(database: Database, beats: int) -> None:
    """One write as a worker at work makes it: the progress of a phase run."""
    with database.write() as session:
        newest = sa.select(sa.func.max(PhaseRunRow.queued_at)).scalar_subquery()
        change = sa.update(PhaseRunRow).where(PhaseRunRow.queued_at == newest)
        session.execute(change.values(progress_text=f"update {beats}"))


def _insert(database: Database, table: type[Row], rows: Iterator[dict[str, Any]]) -> None:
    with database.write() as session:
        while batch := list(islice(rows, BATCH)):
            session.execute(sa.insert(table), batch)


def _id(kind: int, number: int) -> str:
    return str(UUID(int=(kind << 64) + number))


def _iteration(number: int) -> dict[str, Any]:
    spec, at = parse_spec({"seed": number}).document(), START + number * EVERY
    return {
        "id": _id(1, number),
        "number": number,
        "state": "finished",
        "spec": spec,
        "spec_digest": json_digest(spec, what="the spec"),
        "requested_at": at,
        "started_at": at,
        "finished_at": at + EVERY / 2,
    }


def _policy(number: int) -> dict[str, Any]:
    return {
        "id": _id(2, number),
        "kind": "policy",
        "number": number,
        "parent_id": None,
        "sha256": f"{number:064x}",
        "size_bytes": 2_000_000,
        "spec_digest": "0" * 64,
        "card": {"iteration": number, "imagined_success": dict.fromkeys(TASKS, 0.4)},
        "created_at": START + number * EVERY,
    }


def _run(number: int, phase: str) -> dict[str, Any]:
    at = START + number * EVERY
    curve = {str(step): 0.1 for step in range(40)}
    return {
        "id": _id(3, 3 * number + PHASES.index(phase)),
        "iteration_id": _id(1, number),
        "phase": phase,
        "attempt": 1,
        "state": "finished",
        "worker": "w",
        "fence": 1,
        "progress": 1.0,
        "progress_text": "done",
        "queued_at": at,
        "started_at": at,
        "finished_at": at + EVERY / 6,
        "outcome": {"made": {}, "trust": {"horizon": 40, "drift": {"psnr": curve, "ssim": curve}}},
    }


def _metric(run_id: str, name: str) -> dict[str, Any]:
    return {"phase_run_id": run_id, "name": name, "value": 0.5, "recorded_at": START}


def _trial(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "iteration_id": _id(1, number),
        "champion_id": _id(2, number),
        "candidate_id": _id(2, number + 1),
        "goes_on_id": _id(2, number + 1),
        "decision": "promoted",
        "evidence": {"by_task": {}},
        "decided_at": START + number * EVERY,
    }


def _episode(number: int, iteration: int, chance: random.Random) -> dict[str, Any]:
    at = START + iteration * EVERY + timedelta(seconds=30 * (number % 500))
    return {
        "id": _id(4, number),
        "station_id": STATIONS[number // 8 % 2],
        "task_id": TASKS[number % 4],
        "iteration_id": _id(1, iteration),
        "checkpoint_id": _id(2, iteration + number // 4 % 2),
        "origin": "collect",
        "held_out": number % 8 == 0,
        "instruction": TASKS[number % 4],
        "steps": 40,
        "outcome": "completed",
        "valid_for_policy_eval": chance.random() > INVALID,
        "valid_for_world_model": True,
        "manifest": MANIFEST,
        "manifest_sha256": f"{number:064x}",
        "started_at": at,
        "ended_at": at + timedelta(seconds=8 + chance.random()),
        "committed_at": at + timedelta(seconds=9),
    }


def _label(number: int, chance: random.Random) -> dict[str, Any]:
    at = START + timedelta(seconds=number)
    return {
        "episode_id": _id(4, number),
        "success": chance.random() < 0.4 + 0.1 * (number % 4),
        "source": "sim_predicate",
        "judge": "predicate/1",
        "labelled_at": at,
        "recorded_at": at,
    }
