"""kill -9 of the worker in every state of a job at AutoEval: no job forgotten, no episode lost or doubled."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from daemon.client import DaemonClient
from daemon.lab import autoeval_settings, fresh_lab, server
from robot_bridge.autoeval.scheduler import SchedulerClient
from tests.waiting import until

DEADLINE_S = 200
EPISODES = 4
SPEC: dict[str, Any] = {
    "seed": 11,
    "steps": 15,
    "tasks": ["close_drawer"],
    "collect": {"episodes_per_task": EPISODES, "held_out_every": 2},
    "world_model": {"updates": 2, "batch": 4},
    "judge": {"updates": 2},
    "policy": {"updates": 1, "groups": 2, "group_size": 2, "epochs": 1},
}
SLOWLY = ("poll_s=2", "step_s=0.05", "upload_delay_s=3")


@contextmanager
def a_lab(lab: Path) -> Iterator[tuple[str, str]]:
    """An emulator with enough waiting to be killed in, and a daemon that collects there; their addresses."""
    command = ["autoeval-emulator", "--cell-seed", "5", "--root", str(lab / "autoeval")]
    for quirk in SLOWLY:
        command += ["--quirk", quirk]
    with server(lab, "autoeval", command=command, environment={}) as emulator:
        environment = {
            "GYMNASTD_DATA_DIR": str(lab / "data"),
            "GYMNASTD_COLLECT_VIA": "autoeval",
            "GYMNASTD_LEASE_TTL_S": "3",
            **autoeval_settings(emulator),
            "GYMNASTD_AUTOEVAL_POLL_S": "0.2",
        }
        with server(lab, "serve", command=["serve"], environment=environment) as daemon:
            yield emulator, daemon


def rows(lab: Path, query: str) -> list[tuple[Any, ...]]:
    """What is in the database, read past all our own code."""
    with closing(sqlite3.connect(lab / "data" / "gymnastd.sqlite3")) as connection:
        return connection.execute(query).fetchall()


def a_job_is(state: str, lab: Path) -> Callable[[], bool]:
    return lambda: (state,) in rows(lab, "SELECT state FROM autoeval_jobs")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("state", ["queued", "running", "draining"])
def test_a_job_survives_kill_9_of_the_worker_that_looks_after_it(state: str, tmp_path: Path) -> None:
    lab = fresh_lab(tmp_path)
    with a_lab(lab) as (emulator, daemon):
        client = DaemonClient(daemon)
        client.request_iteration(SPEC, idempotency_key="the only one")
        until(a_job_is(state, lab), f"a job that is {state}", within_s=DEADLINE_S)
        os.kill(int(re.findall(r"pid=(\d+)", (lab / "serve.log").read_text())[-1]), signal.SIGKILL)
        record = client.wait(1, timeout_s=DEADLINE_S)
        listed = {job.description: job.status for job in SchedulerClient(emulator).jobs()}

    assert record["state"] == "finished"
    jobs = dict(rows(lab, "SELECT description, state FROM autoeval_jobs"))
    assert set(jobs) == set(listed), "every job at AutoEval has a row, and every row one job"
    ended = {"completed": "joined", "failed": "failed"}
    assert {name: ended[status] for name, status in listed.items()} == jobs
    assert Counter(jobs.values())["joined"] == 1
    if state == "draining":
        assert len(jobs) == 1, "a job that is over at AutoEval is joined, not run again"
    stored = rows(lab, "SELECT manifest, valid_for_policy_eval FROM episodes")
    valid = Counter(json.loads(manifest)["metadata"].get("slot") for manifest, is_valid in stored if is_valid)
    assert valid == {f"close_drawer/{index}": 1 for index in range(EPISODES)}
    assert record["success"]["close_drawer"]["episodes"] == EPISODES
