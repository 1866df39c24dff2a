"""`gymnastd demo`: a station on a cell nobody trained on, a daemon, two iterations over REST, a report.

The demo is a client like any lab's: it starts the two servers as processes of their own, on free loopback
ports and in its own data directory, and from then on it knows only their URLs. Ctrl-C and every error stop
what it started.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from daemon.client import DaemonClient
from daemon.console import follow, learning_lines
from daemon.errors import DemoFailed
from daemon.lab import Via, fresh_lab, servers
from daemon.report import Curve, FilmStrip, curves_of, render_report
from robot_bridge.autoeval.scheduler import JobRow, SchedulerClient

Record = Mapping[str, Any]

COUNTED: Final = ("successes", "episodes")
BRIEF: Final[Record] = {
    "world_model": {"updates": 120, "from_base": False},  # so few, begun anew, are no better than the last
    "policy": {"updates": 10, "groups": 12},
}
VIA_SPEC: Final[Mapping[str, Record]] = {
    "station": BRIEF,
    "station-callback": BRIEF,
    "autoeval-emulator": {  # it cuts each step to 2 cm, so that episodes take longer there
        **BRIEF,
        "steps": 70,
        "collect": {"episodes_per_task": 6, "held_out_every": 3},
    },
}


def run_demo(
    *,
    out: Path,
    cell_seed: int,
    iterations: int,
    seed: int,
    via: Via = "station",
    spec: Mapping[str, Any] | None = None,
) -> int:
    """Run the loop as a lab would and leave `summary.json` and `report.html` in `out`.

    Args:
        via: how the policy gets to the robot.
        spec: fields of the iterations' spec that are not to have their defaults; None takes the demo's own.

    Returns:
        0 when every iteration finished.

    Raises:
        DemoFailed: a server did not start, or the daemon tells other successes than AutoEval.
        IterationFailed: an iteration did not finish; its reason is in the message.
    """
    console = Console()
    lab = fresh_lab(out)
    with servers(lab, cell_seed, via=via) as (robot_url, daemon_url):
        console.print(f"{via} {robot_url} (cell seed {cell_seed}), daemon {daemon_url}")
        client = DaemonClient(daemon_url)
        asked = VIA_SPEC[via] if spec is None else spec
        wanted = [{**asked, "seed": seed + index} for index in range(iterations)]
        records = [iterate(client, console, document) for document in wanted]
        if via == "autoeval-emulator":
            console.print(agreement(records, SchedulerClient(robot_url).jobs()))
        summary = summarise(records, cell_seed=cell_seed, seed=seed)
        strips, curves = evidence(client, records)
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_text(out / "report.html", render_report(summary, strips=strips, curves=curves))
    console.print(success_table(summary))
    for record in records:
        for line in (error_line(record), *learning_lines(record)):
            console.print(line, markup=False, highlight=False)
    console.print(f"wrote {out / 'summary.json'} and {out / 'report.html'}")
    return 0


def iterate(client: DaemonClient, console: Console, spec: Record) -> Record:
    """Trigger one iteration as a lab would and follow its phases to the end."""
    number = client.request_iteration(spec, idempotency_key=f"demo-{spec['seed']}")["number"]
    console.print(f"iteration {number}")
    return follow(client, number, console=console)


def agreement(records: Sequence[Record], jobs: Sequence[JobRow]) -> str:
    """A sentence that says that the daemon's successes are those that AutoEval reported, task by task.

    Raises:
        DemoFailed: they are not.
    """
    ours: Counter[str] = Counter()
    theirs: Counter[str] = Counter()
    for record in records:
        for task, rate in record["success"].items():
            ours.update({f"{task} successes": rate["successes"], f"{task} episodes": rate["episodes"]})
    for job in jobs:
        if job.success_rate is not None and job.num_episodes is not None:
            successes = round(job.success_rate * job.num_episodes)
            theirs.update({f"{job.task} successes": successes, f"{job.task} episodes": job.num_episodes})
    if ours != theirs:
        found = f"the daemon counts {dict(ours)}, AutoEval reported {dict(theirs)}"
        raise DemoFailed(step="comparing successes with AutoEval's own", found=found)
    total = (sum(count for name, count in ours.items() if name.endswith(end)) for end in COUNTED)
    return "AutoEval's own success rates are the daemon's, task by task: {}/{} in all".format(*total)


def summarise(records: Sequence[Record], *, cell_seed: int, seed: int) -> dict[str, Any]:
    """What `summary.json` holds: the iterations as REST tells them, and how the demo was started."""
    kept = (
        "number",
        "state",
        "success",
        "overall",
        "trial",
        "trial_not_carried",
        "world_model",
        "imagined_success",
        "checkpoints",
    )
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
    """`plain_rate` for a rich table, which would take a bracket for markup."""
    return plain_rate(rate).replace("[", "\\[")


def plain_rate(rate: Record | None) -> str:
    """`7/10  [40, 89] %`, or that there is nothing to tell."""
    if rate is None or not rate["episodes"]:
        return "no valid episode"
    low, high = 100 * rate["wilson_low"], 100 * rate["wilson_high"]
    return f"{rate['successes']}/{rate['episodes']}  [{low:.0f}, {high:.0f}] %"


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
