"""kill -9 of the worker in each phase of a real iteration: it finishes, nothing is lost or recorded twice."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemon.client import DaemonClient
from daemon.lab import fresh_lab, servers
from robot_bridge.client import StationClient
from storage.phase_runs import PHASES
from tests.waiting import until

DEADLINE_S = 240
EPISODES = 12  # of each task: some seconds of collecting
SPEC: dict[str, Any] = {
    "seed": 11,
    "steps": 15,
    "tasks": ["open_drawer", "close_drawer"],
    "collect": {"episodes_per_task": EPISODES, "held_out_every": 3},
    "world_model": {"updates": 60, "batch": 4},
    "judge": {"updates": 4},
    "policy": {"updates": 20, "groups": 4, "group_size": 2, "epochs": 1},
}


def worker_pids(log: Path) -> list[int]:
    """Every worker that the daemon started so far, in order."""
    return [int(pid) for pid in re.findall(r"worker started .*pid=(\d+)", log.read_text())]


def attempts_at(record: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [run for run in record["phases"] if run["phase"] == phase]


def in_the_middle_of(client: DaemonClient, phase: str, lab: Path) -> Callable[[], bool]:
    """Whether the phase runs and has something to lose: some episodes or updates, but not all of them."""

    def look() -> bool:
        record = client.iteration(1)
        assert record["state"] in {"requested", "running"}, json.dumps(record["phases"], indent=1)
        runs = attempts_at(record, phase)
        if not runs or runs[-1]["state"] != "running":
            return False
        if phase == "collect":
            return len(stored_episodes(lab)) >= 2
        updates = updates_by_attempt(lab)
        return len(updates) == PHASES.index(phase) and updates[-1] >= 2

    return look


def updates_by_attempt(lab: Path) -> list[int]:
    """How many moments each phase run recorded in its curves, oldest first."""
    curves = (lab / "data" / "runs").glob("*/metrics.jsonl")
    return [path.read_text().count("\n") for path in sorted(curves, key=lambda path: path.stat().st_mtime)]


def stored_episodes(lab: Path) -> list[tuple[str, str, bool]]:
    """(id, slot, valid) of every episode row, read past all our own code."""
    with closing(sqlite3.connect(lab / "data" / "gymnastd.sqlite3")) as connection:
        rows = connection.execute("SELECT id, manifest, valid_for_policy_eval FROM episodes").fetchall()
    return [(id_, json.loads(manifest)["metadata"]["slot"], bool(valid)) for id_, manifest, valid in rows]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("phase", PHASES)
def test_an_iteration_survives_kill_9_of_its_worker(phase: str, tmp_path: Path) -> None:
    lab = fresh_lab(tmp_path)
    with servers(lab, 5) as (station_url, daemon_url):
        client = DaemonClient(daemon_url)
        client.request_iteration(SPEC, idempotency_key="the only one")
        until(in_the_middle_of(client, phase, lab), f"the middle of {phase}", within_s=DEADLINE_S)
        acknowledged = {episode_id for episode_id, _, _ in stored_episodes(lab)}
        os.kill(worker_pids(lab / "serve.log")[-1], signal.SIGKILL)
        record = client.wait(1, timeout_s=DEADLINE_S)
        station = StationClient(station_url)
        left_at_the_station = station.waiting_episodes()
        station.close()

    assert record["state"] == "finished"
    states = [run["state"] for run in attempts_at(record, phase)]
    assert states == ["abandoned", "finished"]
    if phase == "update_policy":
        assert updates_by_attempt(lab)[-1] < SPEC["policy"]["updates"], "it went on where it was killed"
    for other in set(PHASES) - {phase}:
        assert [run["state"] for run in attempts_at(record, other)] == ["finished"]
    stored = stored_episodes(lab)
    assert acknowledged <= {episode_id for episode_id, _, _ in stored}
    valid = Counter(slot for _, slot, is_valid in stored if is_valid)
    assert valid == {f"{task}/{index}": 1 for task in SPEC["tasks"] for index in range(EPISODES)}
    assert left_at_the_station == ()
    assert {task: rate["episodes"] for task, rate in record["success"].items()} == {
        "open_drawer": EPISODES,
        "close_drawer": EPISODES,
    }
    assert len(worker_pids(lab / "serve.log")) == 2
