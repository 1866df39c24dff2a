"""`gymnastd demo`: a station on a cell nobody trained on, a daemon, two iterations over REST, a report.

The demo is a client like any lab's: it starts the two servers as processes of their own, on free loopback
ports and in its own data directory, and from then on it knows only their URLs. Ctrl-C and every error stop
what it started.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from daemon.client import DaemonClient
from daemon.errors import DemoFailed
from daemon.report import Curve, FilmStrip, curves_of, render_report

START_DEADLINE_S = 90.0  # torch is loaded by the worker after serve is ready, so this is generous
ITERATION_DEADLINE_S = 900.0
POLL_S = 0.5
STOP_DEADLINE_S = 15.0
ENDED = {"finished", "failed", "cancelled"}

Record = Mapping[str, object]


def run_demo(*, out: Path, cell_seed: int, iterations: int, seed: int) -> int:
    """Run the loop as a lab would and leave `summary.json` and `report.html` in `out`.

    Returns:
        0 when every iteration finished.

    Raises:
        DemoFailed: a server did not start, or an iteration failed or outran its deadline.
    """
    console = Console()
    lab = fresh_lab(out)
    with servers(lab, cell_seed) as (station_url, daemon_url):
        console.print(f"station {station_url} (cell seed {cell_seed}), daemon {daemon_url} (docs at /docs)")
        client = DaemonClient(daemon_url)
        records = [run_iteration(client, console, seed=seed + index) for index in range(iterations)]
        summary = summarise(records, cell_seed=cell_seed, seed=seed)
        strips, curves = evidence(client, records)
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_text(out / "report.html", render_report(summary, strips=strips, curves=curves))
    console.print(success_table(summary))
    console.print(error_lines(records))
    console.print(f"wrote {out / 'summary.json'} and {out / 'report.html'}")
    return 0


def fresh_lab(out: Path) -> Path:
    """An empty data directory inside `out`; earlier runs keep theirs under their own names."""
    out.mkdir(parents=True, exist_ok=True)
    number = 1 + sum(1 for _ in out.glob("lab-*"))
    lab = out.resolve() / f"lab-{number:03d}"
    lab.mkdir()
    return lab


@contextmanager
def servers(lab: Path, cell_seed: int) -> Iterator[tuple[str, str]]:
    """The station and the daemon as processes; yields their URLs and stops both however the block ends."""
    station_command = ["station", "--sim", "--cell-seed", str(cell_seed), "--spool", str(lab / "spool")]
    with server(lab, "station", station_command, {}) as station_url:
        environment = {"GYMNASTD_DATA_DIR": str(lab / "data"), "GYMNASTD_STATION_URL": station_url}
        with server(lab, "serve", ["serve"], environment) as daemon_url:
            yield station_url, daemon_url


@contextmanager
def server(lab: Path, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """One of our servers on a free loopback port; its log goes to `<lab>/<name>.log`."""
    announced = lab / f"{name}.url"
    arguments = [sys.executable, "-m", "daemon.cli", *command, "--port", "0", "--announce", str(announced)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GYMNASTD_")}
    with (lab / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            arguments,
            env={**clean, "OMP_WAIT_POLICY": "PASSIVE", **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone; we stop the others in order
        )
        try:
            yield wait_for_url(process, announced, name)
        finally:
            stop(process)


def wait_for_url(process: subprocess.Popen[bytes], announced: Path, name: str) -> str:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        if announced.exists():
            return announced.read_text().strip()
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise DemoFailed(step=f"start of {name}", found=tail(announced.with_name(f"{name}.log")))


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the group, then SIGKILL to what is left of it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_iteration(client: DaemonClient, console: Console, *, seed: int) -> Record:
    """Trigger one iteration as a lab would and follow its phases to the end."""
    number = int(str(client.request_iteration({"seed": seed}, idempotency_key=f"demo-{seed}")["number"]))
    columns = (
        TextColumn("{task.fields[phase]:<22}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    console.print(f"iteration {number}")
    deadline = time.monotonic() + ITERATION_DEADLINE_S
    with Progress(*columns, console=console) as progress:
        bars: dict[str, int] = {}
        while time.monotonic() < deadline:
            record = client.iteration(number)
            show_phases(progress, bars, record)
            if record["state"] in ENDED:
                break
            time.sleep(POLL_S)
        else:
            raise DemoFailed(step=f"iteration {number}", found=f"not done after {ITERATION_DEADLINE_S:.0f} s")
    if record["state"] != "finished":
        raise DemoFailed(step=f"iteration {number}", found=json.dumps(record["phases"], indent=2))
    return record


def show_phases(progress: Progress, bars: dict[str, int], record: Record) -> None:
    for run in rows(record["phases"]):
        phase = f"{run['phase']}" + (f" (attempt {run['attempt']})" if run["attempt"] != 1 else "")
        if phase not in bars:
            bars[phase] = progress.add_task("", total=1.0, phase=phase)
        done = 1.0 if run["state"] == "finished" else float(str(run["progress"] or 0.0))
        if run["state"] == "finished":
            progress.stop_task(bars[phase])  # type: ignore[arg-type]
        progress.update(bars[phase], completed=done, description=str(run["text"] or ""))  # type: ignore[arg-type]


def rows(value: object) -> list[dict[str, object]]:
    return [dict(row) for row in value] if isinstance(value, list) else []


def table(value: object) -> dict[str, dict[str, object]]:
    return {str(key): dict(row) for key, row in value.items()} if isinstance(value, Mapping) else {}


def summarise(records: Sequence[Record], *, cell_seed: int, seed: int) -> dict[str, object]:
    """What `summary.json` holds: the iterations as REST tells them, and how the demo was started."""
    kept = ("number", "state", "success", "overall", "world_model", "imagined_success", "checkpoints")
    tasks = sorted({task for record in records for task in table(record["success"])})
    return {
        "cell_seed": cell_seed,
        "seed": seed,
        "tasks": tasks,
        "iterations": [{key: record[key] for key in kept} for record in records],
    }


def evidence(client: DaemonClient, records: Sequence[Record]) -> tuple[list[FilmStrip], list[Curve]]:
    """Film strips and curves of every iteration, fetched while the daemon still runs."""
    strips: list[FilmStrip] = []
    curves: list[Curve] = []
    for record in records:
        number = int(str(record["number"]))
        curves += curves_of(number, client.curves(number))
        for task in sorted(table(record["success"])):
            real = client.film_strip(number, task, "real")
            imagined = client.film_strip(number, task, "imagined")
            if real and imagined:
                strips.append(FilmStrip(iteration=number, task=task, real_jpeg=real, imagined_jpeg=imagined))
    return strips, curves


def success_table(summary: Mapping[str, object]) -> Table:
    shown = Table(title="real success, k/n [95 % Wilson interval]", title_justify="left")
    shown.add_column("task")
    iterations = rows(summary["iterations"])
    for iteration in iterations:
        shown.add_column(f"iteration {iteration['number']}", justify="right")
    for task in summary["tasks"] if isinstance(summary["tasks"], list) else []:
        shown.add_row(task, *(interval(table(it["success"]).get(task)) for it in iterations))
    return shown


def interval(rate: Mapping[str, object] | None) -> str:
    if rate is None:
        return "no valid episode"
    low, high = (100 * float(str(rate[side])) for side in ("wilson_low", "wilson_high"))
    return f"{rate['successes']}/{rate['episodes']}  [{low:.0f}, {high:.0f}] %"


def error_lines(records: Sequence[Record]) -> str:
    lines = []
    for record in records:
        error = table(record["world_model"]).get("held_out_error", {})
        lines.append(
            f"iteration {record['number']}: world-model error on held-out real episodes "
            f"{float(str(error['before'])):.5f} -> {float(str(error['after'])):.5f}"
        )
    return "\n".join(lines)


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: temp file, then rename."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
