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
from typing import Any

from rich.console import Console
from rich.table import Table

from daemon.client import DaemonClient
from daemon.console import follow
from daemon.errors import DemoFailed
from daemon.report import Curve, FilmStrip, curves_of, render_report

START_DEADLINE_S = 90.0
STOP_DEADLINE_S = 20.0
LOOK_EVERY_S = 0.05

Record = Mapping[str, Any]


def run_demo(
    *, out: Path, cell_seed: int, iterations: int, seed: int, spec: Mapping[str, Any] | None = None
) -> int:
    """Run the loop as a lab would and leave `summary.json` and `report.html` in `out`.

    Args:
        spec: fields of the iterations' spec that are not to have their defaults.

    Returns:
        0 when every iteration finished.

    Raises:
        DemoFailed: a server did not start.
        IterationFailed: an iteration did not finish; its reason is in the message.
    """
    console = Console()
    lab = fresh_lab(out)
    with servers(lab, cell_seed) as (station_url, daemon_url):
        console.print(f"station {station_url} (cell seed {cell_seed}), daemon {daemon_url} (docs at /docs)")
        client = DaemonClient(daemon_url)
        wanted = [{**(spec or {}), "seed": seed + index} for index in range(iterations)]
        records = [iterate(client, console, document) for document in wanted]
        summary = summarise(records, cell_seed=cell_seed, seed=seed)
        strips, curves = evidence(client, records)
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_text(out / "report.html", render_report(summary, strips=strips, curves=curves))
    console.print(success_table(summary))
    console.print("\n".join(error_line(record) for record in records))
    console.print(f"wrote {out / 'summary.json'} and {out / 'report.html'}")
    return 0


def iterate(client: DaemonClient, console: Console, spec: Record) -> Record:
    """Trigger one iteration as a lab would and follow its phases to the end."""
    number = client.request_iteration(spec, idempotency_key=f"demo-{spec['seed']}")["number"]
    console.print(f"iteration {number}")
    return follow(client, number, console=console)


def fresh_lab(out: Path) -> Path:
    """An empty data directory inside `out`; earlier runs keep theirs under their own names."""
    out.mkdir(parents=True, exist_ok=True)
    taken = [int(path.name.removeprefix("lab-")) for path in out.glob("lab-[0-9]*")]
    lab = out.resolve() / f"lab-{max(taken, default=0) + 1:03d}"
    lab.mkdir()
    return lab


@contextmanager
def servers(lab: Path, cell_seed: int) -> Iterator[tuple[str, str]]:
    """The station and the daemon as processes; yields their URLs and stops both however the block ends."""
    station_command = ["station", "--sim", "--cell-seed", str(cell_seed), "--spool", str(lab / "spool")]
    with server(lab, "station", command=station_command, environment={}) as station_url:
        environment = {"GYMNASTD_DATA_DIR": str(lab / "data"), "GYMNASTD_STATION_URL": station_url}
        with server(lab, "serve", command=["serve"], environment=environment) as daemon_url:
            yield station_url, daemon_url


@contextmanager
def server(lab: Path, name: str, *, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """One of our servers on a free loopback port; its log goes to `<lab>/<name>.log`."""
    announced = lab / f"{name}.url"
    arguments = [sys.executable, "-m", "daemon.cli", *command, "--port", "0", "--announce", str(announced)]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GYMNASTD_")}
    with (lab / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            arguments,
            env={**inherited, "OMP_WAIT_POLICY": "PASSIVE", **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone; we stop the others in order
        )
        try:
            yield wait_for_url(process, announced)
        finally:
            stop(process)


def wait_for_url(process: subprocess.Popen[bytes], announced: Path) -> str:
    """The address that a server wrote when it was ready.

    Raises:
        DemoFailed: it ended or stayed silent; the end of its log is in the message.
    """
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        if announced.exists():
            return announced.read_text().strip()
        time.sleep(LOOK_EVERY_S)
    log = announced.with_suffix(".log").read_text(errors="replace").splitlines()
    raise DemoFailed(step=f"the start of {announced.stem}", found="\n".join(log[-15:]))


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the group, then SIGKILL to what is left of it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def summarise(records: Sequence[Record], *, cell_seed: int, seed: int) -> dict[str, Any]:
    """What `summary.json` holds: the iterations as REST tells them, and how the demo was started."""
    kept = ("number", "state", "success", "overall", "world_model", "imagined_success", "checkpoints")
    return {
        "cell_seed": cell_seed,
        "seed": seed,
        "tasks": sorted({task for record in records for task in record["success"]}),
        "iterations": [{key: record[key] for key in kept} for record in records],
    }


def evidence(client: DaemonClient, records: Sequence[Record]) -> tuple[list[FilmStrip], list[Curve]]:
    """Film strips and curves of every iteration, fetched while the daemon still runs."""
    strips: list[FilmStrip] = []
    curves: list[Curve] = []
    for record in records:
        number = record["number"]
        curves += curves_of(number, client.curves(number))
        for task in sorted(record["success"]):
            real, imagined = (client.film_strip(number, task, which) for which in ("real", "imagined"))
            if real is not None and imagined is not None:
                strips.append(FilmStrip(iteration=number, task=task, real_jpeg=real, imagined_jpeg=imagined))
    return strips, curves


def success_table(summary: Record) -> Table:
    """One row per task, one column per iteration."""
    shown = Table(title="real success, k/n [95 % interval]", title_justify="left")
    shown.add_column("task")
    for iteration in summary["iterations"]:
        shown.add_column(f"iteration {iteration['number']}", justify="right")
    for task in summary["tasks"]:
        shown.add_row(task, *(rate_text(it["success"].get(task)) for it in summary["iterations"]))
    shown.add_row("all", *(rate_text(it["overall"]) for it in summary["iterations"]))
    return shown


def rate_text(rate: Record | None) -> str:
    """`7/10  [40, 89] %`, or that there is nothing to tell."""
    if rate is None or not rate["episodes"]:
        return "no valid episode"
    low, high = 100 * rate["wilson_low"], 100 * rate["wilson_high"]
    return f"{rate['successes']}/{rate['episodes']}  \\[{low:.0f}, {high:.0f}] %"  # escaped: no rich markup


def error_line(record: Record) -> str:
    error = record["world_model"]["held_out_error"]
    return (
        f"iteration {record['number']}: world-model error on held-out real episodes "
        f"{error['before']:.5f} before finetuning, {error['after']:.5f} after"
    )


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: temp file, then rename."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
