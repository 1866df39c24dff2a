"""The main job, whole: two real servers, a simulated cell, two small iterations, a summary and a report."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from daemon.cli import app
from daemon.demo import (
    VIA_SPEC,
    agreement,
    error_line,
    rate_text,
    run_demo,
    success_table,
    summarise,
    write_text,
)
from daemon.errors import DemoFailed
from daemon.lab import fresh_lab, server, wait_for_url
from daemon.statistics import wilson_interval
from robot_bridge.autoeval.scheduler import JobRow

TASKS = ["close_drawer", "open_drawer", "put_eggplant_blue_sink", "put_eggplant_yellow_basket"]
SMALL: dict[str, Any] = {
    "steps": 15,
    "collect": {"episodes_per_task": 2, "held_out_every": 2},
    "world_model": {"updates": 3, "batch": 4},
    "judge": {"updates": 3},
    "policy": {"updates": 1, "groups": 4, "group_size": 2, "epochs": 1},
}


def a_record(number: int, **changes: Any) -> dict[str, Any]:
    rate = {"successes": 7, "episodes": 10, "wilson_low": 0.3968, "wilson_high": 0.8922}
    error = {"before": 0.02, "after": 0.0125, "by_horizon": {}}
    return {
        "number": number,
        "state": "finished",
        "success": {"open_drawer": rate},
        "overall": rate,
        "world_model": {"held_out_error": error, "gate": None, "trust": None},
        "imagined_success": {},
        "trial": None,
        "trial_not_carried": None,
        "judge_audit": None,
        "tasks_left_out": {},
        "checkpoints": {"read": {}, "made": {}, "rejected": {}},
        "phases": [],
        **changes,
    }


def printed(table: Any) -> str:
    console = Console(width=120, record=True)
    console.print(table)
    return console.export_text()


def alive(pattern: str) -> list[int]:
    """Processes whose command line holds the pattern."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if pattern in words:
                found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_runs_two_iterations_over_rest_and_leaves_summary_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert run_demo(out=out, cell_seed=5, iterations=2, seed=1, spec=SMALL) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["tasks"] == TASKS
    assert [iteration["number"] for iteration in summary["iterations"]] == [1, 2]
    for iteration in summary["iterations"]:
        for task in TASKS:
            rate = iteration["success"][task]
            interval = wilson_interval(rate["successes"], rate["episodes"])
            assert rate["episodes"] == 2
            assert (rate["wilson_low"], rate["wilson_high"]) == pytest.approx((interval.low, interval.high))
        assert set(iteration["world_model"]["held_out_error"]) >= {"before", "after"}
        made, rejected = (iteration["checkpoints"][name] for name in ("made", "rejected"))
        assert set(made) | set(rejected) >= {"world_model", "judge"}
        assert set(made) | set(rejected) <= {"world_model", "judge", "policy"}
        assert ("world_model" in made) is iteration["world_model"]["gate"]["accepted"]
        assert set(rejected) == {"world_model"} - set(made), "only the gate rejects"
        assert set(iteration["world_model"]["trust"]["outcomes"]) == set(TASKS)
    first, second = summary["iterations"]
    assert first["trial"] is None
    if "policy" in first["checkpoints"]["made"]:  # so few rollouts may teach nothing: then nobody is tried
        assert second["trial"]["decision"] in {"promoted", "rejected", "undecided"}
        tried = second["trial"]["by_task"]
        assert {task: own["candidate"]["episodes"] for task, own in tried.items()} == dict.fromkeys(TASKS, 2)
    else:
        assert second["trial"] is None
    assert second["checkpoints"]["read"]["policy"] == first["checkpoints"]["read"]["policy"]
    page = (out / "report.html").read_text()
    assert len(re.findall(r'src="data:image/jpeg', page)) == 2 * 2 * len(TASKS)  # real and imagined
    assert page.count("<polyline") > 4
    text = capsys.readouterr().out
    assert all(task in text for task in TASKS)
    assert alive(str(out)) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_through_autoeval_counts_what_autoeval_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"
    monkeypatch.setitem(VIA_SPEC, "autoeval-emulator", SMALL)
    words = ["--out", str(out), "--cell-seed", "5", "--iterations", "1", "--seed", "1"]
    done = CliRunner().invoke(app, ["demo", *words, "--via", "autoeval-emulator", "--json"])
    assert done.exit_code == 0, done.output or done.exception
    told = json.loads(done.stdout)
    assert told == {"folder": str(out), **json.loads((out / "summary.json").read_text())}
    (iteration,) = told["iterations"]
    assert {task: rate["episodes"] for task, rate in iteration["success"].items()} == dict.fromkeys(TASKS, 2)
    text = " ".join(done.stderr.split())
    assert "AutoEval's own success rates are the daemon's" in text
    assert "/8 in all" in text
    assert alive(str(out)) == []


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_ctrl_c_stops_everything_that_the_demo_started(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "daemon.cli", "demo", "--out", str(tmp_path / "demo")]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GYMNASTD_")}
    demo = subprocess.Popen(command, env=clean, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    announced = tmp_path / "demo" / "lab-001" / "serve.url"
    deadline = time.monotonic() + 90
    while not announced.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert announced.exists()
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) != 0
    assert alive(str(tmp_path)) == []


def a_job(**changes: Any) -> JobRow:
    row = JobRow(
        job_id="1",
        status="completed",
        description="dyna:1",
        robot="widowx_drawer",
        task="open_drawer",
        num_episodes=10,
        max_steps=70,
        submitted_at=1.0,
        success_rate=0.7,
        wandb_url="",
    )
    return replace(row, **changes)


def test_successes_are_compared_with_autoevals_own_task_by_task() -> None:
    unfinished = a_job(status="failed", success_rate=None)
    assert agreement([a_record(1)], [a_job(), unfinished]).endswith("7/10 in all")
    assert agreement([a_record(1), a_record(2)], [a_job(), a_job()]).endswith("14/20 in all")


@pytest.mark.parametrize(
    "jobs", [[], [a_job(success_rate=0.6)], [a_job(num_episodes=9)], [a_job(task="close")]]
)
def test_successes_that_differ_from_autoevals_stop_the_demo(jobs: list[JobRow]) -> None:
    with pytest.raises(DemoFailed, match="AutoEval reported"):
        agreement([a_record(1)], jobs)


def test_a_server_that_dies_at_its_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(DemoFailed, match=r"start of serve[\s\S]*GYMNASTD_NO_SUCH_SETTING"),
        server(tmp_path, "serve", command=["serve"], environment={"GYMNASTD_NO_SUCH_SETTING": "1"}),
    ):
        pass


def test_the_address_is_what_the_server_announced(tmp_path: Path) -> None:
    announced = tmp_path / "station.url"
    announced.write_text("http://127.0.0.1:1234\n")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert wait_for_url(process, announced) == "http://127.0.0.1:1234"
        process.kill()


def test_every_run_gets_a_data_directory_of_its_own(tmp_path: Path) -> None:
    first, second = fresh_lab(tmp_path), fresh_lab(tmp_path)
    assert [first.name, second.name] == ["lab-001", "lab-002"]
    first.rmdir()
    assert fresh_lab(tmp_path).name == "lab-003"


def test_the_summary_holds_what_rest_said() -> None:
    records = [a_record(1), a_record(2, success={})]
    summary = summarise(records, cell_seed=7, seed=3)
    assert (summary["cell_seed"], summary["seed"], summary["tasks"]) == (7, 3, ["open_drawer"])
    assert summary["iterations"][0]["success"] == records[0]["success"]
    assert "phases" not in summary["iterations"][0]


def test_the_table_shows_counts_with_intervals_and_says_when_there_are_none() -> None:
    text = printed(success_table(summarise([a_record(1), a_record(2, success={})], cell_seed=7, seed=3)))
    assert "7/10  [40, 89] %" in text
    assert "no valid episode" in text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (None, "no valid episode"),
        ({"successes": 0, "episodes": 0, "wilson_low": 0.0, "wilson_high": 1.0}, "no valid episode"),
        ({"successes": 0, "episodes": 4, "wilson_low": 0.0, "wilson_high": 0.4899}, r"0/4  \[0, 49] %"),
    ],
)
def test_a_rate_is_never_told_without_its_interval(rate: dict[str, Any] | None, text: str) -> None:
    assert rate_text(rate) == text


def test_the_world_models_error_is_told_before_and_after() -> None:
    assert error_line(a_record(1)).endswith("0.02000 before finetuning, 0.01250 after")


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_text(path, "first")
    write_text(path, "second")
    assert path.read_text() == "second"
    assert [found.name for found in tmp_path.iterdir()] == ["summary.json"]
