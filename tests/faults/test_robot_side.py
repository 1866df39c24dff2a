"""kill -9 of the station in a step, of the daemon in an episode, and a network that is gone for ten seconds.

Real processes over real sockets. Whatever is cut off, the arm holds, the iteration comes to its end, every
slot is filled exactly once, and no episode that was acknowledged is missing.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemon.client import DaemonClient
from daemon.lab import free_port, fresh_lab, server
from robot_bridge.client import StationClient
from robot_bridge.errors import RobotBridgeError
from tests.faults.processes import DEADLINE_S, cable, kill_server, kill_worker, rows
from tests.waiting import until

EPISODES = 6  # of each task: some seconds of collecting
SPEC: dict[str, Any] = {
    "seed": 21,
    "steps": 40,
    "tasks": ["open_drawer", "close_drawer"],
    "collect": {"episodes_per_task": EPISODES, "held_out_every": 3},
    "world_model": {"updates": 4, "batch": 4},
    "judge": {"updates": 2},
    "policy": {"updates": 1, "groups": 2, "group_size": 2, "epochs": 1},
}
MODES = ("stepped", "callback")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def station_command(lab: Path) -> list[str]:
    return ["station", "--sim", "--cell-seed", "5", "--spool", str(lab / "spool")]


def daemon_settings(lab: Path, station_url: str, *, mode: str) -> dict[str, str]:
    return {
        "GYMNASTD_DATA_DIR": str(lab / "data"),
        "GYMNASTD_STATION_URL": station_url,
        "GYMNASTD_COLLECT_VIA": mode,
    }


def in_an_episode(station_url: str, lab: Path) -> Callable[[], bool]:
    """Whether the arm is in the middle of an episode, and some are stored already."""
    client = StationClient(station_url)

    def look() -> bool:
        try:
            status = client.status()
        except RobotBridgeError:
            return False
        far = status.episode is not None and 4 <= status.episode.next_step <= 30
        return far and status.state == "RUNNING" and len(rows(lab, "SELECT id FROM episodes")) >= 2

    return look


def events(station_url: str) -> list[Any]:
    with closing(StationClient(station_url)) as client:
        return list(client.all_events())


def require_whole(record: dict[str, Any], lab: Path, *, acknowledged: set[str], station_url: str) -> None:
    """The iteration finished, each slot has one valid episode, and nothing is left or missing anywhere."""
    assert record["state"] == "finished", json.dumps(record["phases"], indent=1)
    stored = rows(lab, "SELECT id, manifest, valid_for_policy_eval FROM episodes")
    assert acknowledged <= {row[0] for row in stored}
    filled = Counter(json.loads(manifest)["metadata"]["slot"] for _, manifest, valid in stored if valid)
    assert filled == {f"{task}/{index}": 1 for task in SPEC["tasks"] for index in range(EPISODES)}
    assert {rate["episodes"] for rate in record["success"].values()} == {EPISODES}
    client = StationClient(station_url)
    assert client.waiting_episodes() == ()
    client.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_station_killed_in_a_step_comes_back_and_no_motion_is_repeated(mode: str, tmp_path: Path) -> None:
    lab, port = fresh_lab(tmp_path), free_port()
    command = station_command(lab)
    with server(lab, "station", command=command, environment={}, port=port) as station_url:
        environment = daemon_settings(lab, station_url, mode=mode)
        with server(lab, "serve", command=["serve"], environment=environment) as daemon_url:
            client = DaemonClient(daemon_url)
            client.request_iteration(SPEC, idempotency_key="the only one")
            until(in_an_episode(station_url, lab), "the middle of an episode", within_s=DEADLINE_S)
            acknowledged = {row[0] for row in rows(lab, "SELECT id FROM episodes")}
            kill_server(lab / "station.url")
            with server(lab, "station", command=command, environment={}, port=port):
                record = client.wait(1, timeout_s=DEADLINE_S)
                lost = [event for event in events(station_url) if event.kind == "episode_lost"]
                require_whole(record, lab, acknowledged=acknowledged, station_url=station_url)
    assert len(lost) == 1  # the one that ran: nobody knows its outcome, and nobody claims to
    assert lost[0].episode_id not in {row[0] for row in rows(lab, "SELECT id FROM episodes")}


@pytest.mark.parametrize("mode", MODES)
def test_a_daemon_killed_in_an_episode_leaves_the_arm_holding_and_goes_on_later(
    mode: str, tmp_path: Path
) -> None:
    lab = fresh_lab(tmp_path)
    with server(lab, "station", command=station_command(lab), environment={}) as station_url:
        environment = daemon_settings(lab, station_url, mode=mode)
        with server(lab, "serve", command=["serve"], environment=environment) as daemon_url:
            client = DaemonClient(daemon_url)
            client.request_iteration(SPEC, idempotency_key="the only one")
            until(in_an_episode(station_url, lab), "the middle of an episode", within_s=DEADLINE_S)
            acknowledged = {row[0] for row in rows(lab, "SELECT id FROM episodes")}
            kill_worker(lab / "serve.log")  # it acts; the server behind it dies next
            kill_server(lab / "serve.url")
            held = until(lambda: [e for e in events(station_url) if e.kind == "hold"], "HOLD", within_s=30.0)
            cut_short = str(held[-1].episode_id)
            watcher = StationClient(station_url)
            until(lambda: watcher.status().episode is None, "the end of the episode")
            watcher.close()
        with server(lab, "serve", command=["serve"], environment=environment) as daemon_url:
            record = DaemonClient(daemon_url).wait(1, timeout_s=DEADLINE_S)
        require_whole(record, lab, acknowledged=acknowledged, station_url=station_url)
    ends = {row[0]: row[1:] for row in rows(lab, "SELECT id, outcome, valid_for_policy_eval FROM episodes")}
    outcome, valid = ends[cut_short]
    assert outcome in {"timeout_client", "aborted_lease", "policy_error"}
    assert not valid  # kept for the world model, never counted


def test_a_network_that_is_gone_for_ten_seconds_costs_one_episode_at_most(tmp_path: Path) -> None:
    lab = fresh_lab(tmp_path)
    with (
        server(lab, "station", command=station_command(lab), environment={}) as station_url,
        cable(station_url) as line,
    ):
        environment = daemon_settings(lab, line.url, mode="stepped")
        with server(lab, "serve", command=["serve"], environment=environment) as daemon_url:
            client = DaemonClient(daemon_url)
            client.request_iteration(SPEC, idempotency_key="the only one")
            until(in_an_episode(station_url, lab), "the middle of an episode", within_s=DEADLINE_S)
            acknowledged = {row[0] for row in rows(lab, "SELECT id FROM episodes")}
            with line.cut():
                cut_at = time.monotonic()
                until(lambda: [e for e in events(station_url) if e.kind == "hold"], "HOLD")
                until(lambda: time.monotonic() - cut_at >= 10.0, "ten seconds")
            record = client.wait(1, timeout_s=DEADLINE_S)
            require_whole(record, lab, acknowledged=acknowledged, station_url=station_url)
    outcomes = Counter(row[0] for row in rows(lab, "SELECT outcome FROM episodes"))
    assert outcomes["completed"] == 2 * EPISODES
    assert outcomes["timeout_client"] == outcomes.total() - outcomes["completed"] <= 1
