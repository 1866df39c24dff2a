"""`gymnastd bench learning`: does the loop make the real robot better? Success per iteration, with a control.

A lab in a folder runs K iterations over REST through its own station and daemon, then one that tries the last
candidate, and one in which the champion acts alone: episodes that chose a policy flatter it, those at the end
choose nobody, as those of the base at the beginning. The *control* is the same loop with the world model and
the judge left as they were. Both go on where they were stopped, and what is known is written after each
iteration: real success on the station, from the table that labs read.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console

from daemon.client import DaemonClient
from daemon.console import follow
from daemon.demo import write_text
from daemon.errors import ProofDiffers
from daemon.lab import servers
from daemon.learning_figure import Line, figure
from daemon.learning_report import Record, imagined_mean, learning_table, markdown, points_of, verdicts

Arm = Literal["loop", "control"]
ARMS: Final[tuple[Arm, ...]] = ("loop", "control")
LEDGER: Final = "cpu_seconds.json"

NOTHING_LEARNED: Final[Record] = {
    "world_model": {"updates": 0},
    "judge": {"updates": 0},
    "policy": {"updates": 0},
}
MEASURED: Final[Record] = {**NOTHING_LEARNED, "trial": {"carries": 0}}
AFTER, MOST_AFTER = 2, 4  # iterations after those that learn: until no candidate is left to be tried
CUT: Final[Record] = {"world_model": {"updates": 0}, "judge": {"updates": 0}}  # the loop without its model
PRESETS: Final[Mapping[str, Record]] = {
    "nano": {
        "collect": {"episodes_per_task": 64},  # with 24 a tenth more is in the noise
        "world_model": {"updates": 500, "mixing": 0.8},  # of many episodes there is more to take on
        "policy": {"updates": 30},
    }
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One proof: how many iterations, on which cell, by which spec."""

    iterations: int
    cell_seed: int
    seed: int
    spec: Record

    def document(self, index: int, arm: Arm) -> dict[str, Any]:
        """The spec of the index-th iteration from 0; after K of them nothing is learned."""
        changes = CUT if arm == "control" else {}
        if index >= self.iterations:
            changes = NOTHING_LEARNED if index == self.iterations else MEASURED
        return {**merged(self.spec, changes), "seed": self.seed + index}


def prove_learning(plan: Plan, *, out: Path, arms: Sequence[Arm] = ("loop",)) -> int:
    """Run or go on with the proof; leaves `learning.json`, `learning.md` and `learning.svg` in `out`.

    Returns:
        0 when every iteration finished.

    Raises:
        ProofDiffers: `out` holds the proof of another plan.
        DemoFailed: a server did not start.
        IterationFailed: an iteration did not finish; its reason is in the message.
    """
    console = Console()
    found = known_before(out, plan)
    for arm in arms:

        def told(records: Sequence[Record], arm: Arm = arm) -> None:
            if len(records) < len(found.get(arm, {}).get("points", ())):
                return  # iterations of an earlier run, told again
            found[arm] = {"points": points_of(records), "cpu_minutes": cpu_minutes(out / arm)}
            write_found(found, out)

        told(run_arm(plan, out / arm, arm=arm, console=console, told=told))
        console.print(learning_table(found[arm], title=arm))
    for sentence in verdicts(found["loop"]) if "loop" in arms else ():
        console.print(sentence, markup=False, highlight=False)
    console.print(f"wrote {out / 'learning.md'}, {out / 'learning.json'} and {out / 'learning.svg'}")
    return 0


def run_arm(
    plan: Plan, lab: Path, *, arm: Arm, console: Console, told: Callable[[Sequence[Record]], None]
) -> list[Record]:
    """All iterations of one arm, each asked for once however often this is run; told after each of them."""
    lab.mkdir(parents=True, exist_ok=True)
    before = cpu_seconds()
    records: list[Record] = []
    try:
        with servers(lab.resolve(), plan.cell_seed) as (_, daemon_url):
            client = DaemonClient(daemon_url)
            for index in range(plan.iterations + MOST_AFTER):
                if index >= plan.iterations + AFTER and records[-1]["trial"] is None:
                    break
                asked = client.request_iteration(plan.document(index, arm), idempotency_key=f"{arm}-{index}")
                console.print(f"{arm}, iteration {asked['number']}, the first {plan.iterations} learn")
                if asked["state"] == "failed":  # in an earlier run; this one tries again
                    client.retry(asked["number"])
                records.append(follow(client, asked["number"], console=console))
                told(records)
    finally:  # what an interrupted run has cost counts too
        spent = 60 * cpu_minutes(lab) + cpu_seconds() - before
        write_text(lab / LEDGER, json.dumps(spent))
    return records


def cpu_minutes(lab: Path) -> float:
    """What an arm has cost in the runs that are over; nobody could note what a killed one had."""
    ledger = lab / LEDGER
    return float(json.loads(ledger.read_text())) / 60 if ledger.is_file() else 0.0


def known_before(out: Path, plan: Plan) -> dict[str, Any]:
    """What an earlier run of the same plan has written, or the plan alone; either way it is in `out` then.

    Raises:
        ProofDiffers: what is there belongs to another plan.
    """
    file = out / "learning.json"
    asked: dict[str, Any] = json.loads(json.dumps({**asdict(plan), "spec": dict(plan.spec)}))
    if not file.is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(asked, indent=2) + "\n")
        return asked
    before: dict[str, Any] = json.loads(file.read_text())
    differ = {name: (before[name], own) for name, own in asked.items() if before.get(name, own) != own}
    if differ:
        raise ProofDiffers(out=out, differences=differ)
    return {**asked, **before}


def write_found(found: Record, out: Path) -> None:
    """Numbers, tables and figure of what is known so far."""
    arms: list[Arm] = [arm for arm in ARMS if arm in found]
    write_text(out / "learning.json", json.dumps(found, indent=2) + "\n")
    write_text(out / "learning.md", "\n\n".join(markdown(found[arm], title=arm) for arm in arms) + "\n")
    title = f"real success, cell {found['cell_seed']}"
    write_text(out / "learning.svg", figure(lines(found, arms), title=title))


def lines(found: Record, arms: Sequence[Arm]) -> list[Line]:
    """Curves of the figure: every task of the loop, the mean of each arm, what was imagined."""
    drawn: list[Line] = []
    for arm in arms:
        points = found[arm]["points"]
        drawn.append(Line.of_rates(f"{arm}, all tasks", [point["mean"] for point in points], strong=True))
        if arm == "loop":
            for task in sorted(points[0]["real"]):
                drawn.append(Line.of_rates(task, [point["real"][task] for point in points]))
        drawn.append(Line.of_values(f"{arm}, imagined", [imagined_mean(point) for point in points]))
    return drawn


def merged(spec: Record, changes: Record) -> dict[str, Any]:
    """The spec with these entries of its sections changed."""
    return {**spec, **{name: {**spec.get(name, {}), **own} for name, own in changes.items()}}


def cpu_seconds() -> float:
    """Processor time of all ended processes that this one started, and that those started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
