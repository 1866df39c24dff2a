"""kill -9 of the worker in the middle of a what-if: it is done again, once, and nothing is left behind."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from daemon.lab import fresh_lab, servers
from daemon.world_client import WorldClient
from tests.faults.processes import DEADLINE_S, rows
from tests.waiting import until

LONG: dict[str, Any] = {"rollouts": 16, "steps": 100, "instruction": "open the drawer", "seed": 3}


def a_picture() -> str:
    """A grey picture as REST takes it."""
    file = io.BytesIO()
    Image.new("RGB", (96, 96), (120, 130, 140)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def newest_worker(log: Path) -> int:
    return int(re.findall(r"worker started .*pid=(\d+)", log.read_text())[-1])


def kill_while_it_imagines(client: WorldClient, lab: Path, what_if: str, *, attempt: int) -> None:
    def runs() -> bool:
        record = client.what_if(what_if)
        assert record["state"] in {"queued", "running"}, record
        return record["state"] == "running" and record["attempts"] == attempt

    until(runs, f"attempt {attempt}", within_s=DEADLINE_S)
    os.kill(newest_worker(lab / "serve.log"), signal.SIGKILL)


def ended(client: WorldClient, what_if: str) -> dict[str, Any]:
    return until(
        lambda: record if (record := client.what_if(what_if))["state"] in {"finished", "failed"} else None,
        "its end",
        within_s=DEADLINE_S,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_what_if_survives_one_kill_of_its_worker_and_fails_with_a_reason_at_the_second(
    tmp_path: Path,
) -> None:
    lab = fresh_lab(tmp_path)
    with servers(lab, 5) as (_, daemon_url):
        client = WorldClient(daemon_url)
        wish = {**LONG, "image": a_picture()}
        once = client.ask_what_if(wish, idempotency_key="once")["id"]
        kill_while_it_imagines(client, lab, once, attempt=1)
        record = ended(client, once)
        assert (record["state"], record["attempts"]) == ("finished", 2)
        assert len(record["result"]["rollouts"]) == LONG["rollouts"]
        assert client.ask_what_if(wish, idempotency_key="once")["id"] == once, "asked once, done once"

        twice = client.ask_what_if({**wish, "seed": 4})["id"]
        kill_while_it_imagines(client, lab, twice, attempt=1)
        kill_while_it_imagines(client, lab, twice, attempt=2)
        record = ended(client, twice)
        assert record["state"] == "failed"
        assert record["error"]["message"]
    open_leases = rows(lab, "SELECT name FROM leases WHERE name LIKE 'what_if:%' AND holder IS NOT NULL")
    assert open_leases == []
