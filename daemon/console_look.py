"""What the commands of `cli_look.py` show on a terminal: one table each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from daemon.console import alarm_lines, moment, told

Record = Mapping[str, Any]
Columns = Mapping[str, Callable[[Any], str]]

VERDICTS = {True: "success", False: "failure", None: "unknown"}

EPISODES: Columns = {
    "episode": lambda row: row["id"],
    "iteration": lambda row: optional(row["iteration"]),
    "task": lambda row: row["task"],
    "station": lambda row: row["station"],
    "steps": lambda row: str(row["steps"]),
    "verdict": lambda row: f"{VERDICTS[row['success']]}, {row['label_source'] or 'nobody'}",
    "counts": lambda row: "yes" if row["valid_for_policy_eval"] else "no",
    "notes": lambda row: str(row["notes"] or ""),
    "recorded": lambda row: moment(row["started_at"]),
}
LABELS: Columns = {
    "at": lambda row: moment(row["labelled_at"]),
    "verdict": lambda row: VERDICTS[row["success"]],
    "source": lambda row: row["source"],
    "who": lambda row: row["who"] or "",
    "note": lambda row: row["note"] or "",
    "counts": lambda row: "yes" if row["counts"] else "",
}
NOTES: Columns = {
    "at": lambda row: moment(row["noted_at"]),
    "who": lambda row: row["author"],
    "note": lambda row: row["text"],
}
CHECKPOINTS: Columns = {
    "checkpoint": lambda row: row["id"],
    "kind": lambda row: row["kind"],
    "number": lambda row: str(row["number"]),
    "iteration": lambda row: optional(row["iteration"]),
    "parent": lambda row: row["parent_id"] or "",
    "MB": lambda row: f"{row['size_bytes'] / 1e6:.1f}",
    "made": lambda row: moment(row["created_at"]),
    "retired": lambda row: moment(row["retired_at"]),
}
TRUST: Columns = {
    "measured": lambda row: moment(row["measured_at"]),
    "iteration": lambda row: optional(row["iteration"]),
    "verdict": lambda row: row["verdict"],
    "episodes": lambda row: str(row["episodes"]),
    "steps trusted": lambda row: str(row["horizon"]),
    "agreement": lambda row: share(row["agreement"]),
    "optimism": lambda row: points(row["optimism"]),
    "sensitivity": lambda row: "" if row["sensitivity"] is None else f"{row['sensitivity']:.2f}",
}
GROUPS: Columns = {
    "iteration": lambda row: optional(row["iteration"]),
    "task": lambda row: row["task"] or "",
    "policy": lambda row: optional(row["policy_number"]),
    "station": lambda row: row["station"] or "",
    "success": told,
    "95 % interval": lambda row: f"{100 * row['wilson_low']:.0f} to {100 * row['wilson_high']:.0f} %",
    "mean over tasks": lambda row: share(row["mean"]),
    "no verdict": lambda row: str(row["unlabelled"]),
    "invalid": lambda row: str(row["invalid"]),
}


def show_episodes(items: Sequence[Record], *, console: Console | None = None) -> None:
    show_table(items, EPISODES, empty="no episode has been recorded yet", console=console)


def show_labels(items: Sequence[Record], *, console: Console | None = None) -> None:
    show_table(items, LABELS, empty="nobody has judged it yet", console=console)


def show_notes(items: Sequence[Record], *, console: Console | None = None) -> None:
    show_table(items, NOTES, empty="nobody has written a note on it yet", console=console)


def show_checkpoints(items: Sequence[Record], *, console: Console | None = None) -> None:
    show_table(items, CHECKPOINTS, empty="there is no checkpoint yet", console=console)


def show_trust(items: Sequence[Record], *, console: Console | None = None) -> None:
    show_table(items, TRUST, empty="it was never measured", console=console)


def show_groups(items: Sequence[Record], *, console: Console | None = None) -> None:
    show_table(items, GROUPS, empty="no episode has been recorded yet", console=console)


def show_curves(curves: Mapping[str, Record], *, console: Console | None = None) -> None:
    """Print the first and the last point of every curve."""
    rows = [
        {"phase": phase, "name": name, "points": found}
        for phase, named in curves.items()
        for name, found in named.items()
        if found
    ]
    columns: Columns = {
        "phase": lambda row: row["phase"],
        "curve": lambda row: row["name"],
        "points": lambda row: str(len(row["points"])),
        "first": lambda row: f"{row['points'][0][1]:.4g}",
        "last": lambda row: f"{row['points'][-1][1]:.4g}",
        "at": lambda row: f"{row['points'][-1][0]:g}",
    }
    show_table(rows, columns, empty="no curve has been written yet", console=console)


def show_alarms(answer: Record, *, console: Console | None = None) -> None:
    """Print one line per alarm, or how many policies gave no reason for one."""
    out = console or Console()
    for line in alarm_lines(answer["items"]):
        out.print(line, markup=False, highlight=False)
    if not answer["items"]:
        out.print(f"no alarm; {len(answer['watched'])} policies acted in several iterations")


def show_difference(answer: Record, *, console: Console | None = None) -> None:
    """Print both counts by task, the other minus the one, and whether they are told apart."""
    rows = [{"task": task, **found} for task, found in sorted(answer["tasks"].items())]
    columns: Columns = {
        "task": lambda row: row["task"],
        "one": lambda row: told(row["one"]),
        "other": lambda row: told(row["other"]),
        "difference": lambda row: estimate(row["difference"]),
        "episodes still needed": lambda row: optional(row["episodes_still_needed"]),
    }
    out = console or Console()
    show_table(rows, columns, empty="neither has a judged episode", console=out)
    for task in answer.get("ended_early", ()):
        out.print(f"{task}: of episodes that a judge could end early", markup=False, highlight=False)
    for task in answer.get("not_comparable", ()):
        why = "one ended early where a judge saw success, the other never"
        out.print(f"{task} is left out: {why}", markup=False, highlight=False)
    apart = "they are told apart" if answer["told_apart"] else "they are not told apart"
    if answer["mean"] is not None:
        apart = f"mean over tasks {estimate(answer['mean'])}; {apart}"
    out.print(apart, markup=False, highlight=False)


def show_table(
    items: Sequence[Record], columns: Columns, *, empty: str, console: Console | None = None
) -> None:
    """Print one line per item, its cells as they are, or what is to be said where there is none."""
    table = Table(*columns)
    for item in items:
        table.add_row(*(Text(cell(item)) for cell in columns.values()))
    (console or Console()).print(table if items else empty)


def optional(number: int | None) -> str:
    return "" if number is None else str(number)


def share(part: float | None) -> str:
    return "" if part is None else f"{100 * part:.0f} %"


def points(part: float | None) -> str:
    """A difference of shares in percentage points."""
    return "" if part is None else f"{100 * part:+.0f}"


def part_of(count: int, whole: int) -> str:
    """A share; "not measured" of nothing."""
    return share(count / whole) if whole else "not measured"


def percentiles(latency: Record | None) -> str:
    """Half of the steps took at most the first, 99 of 100 at most the second."""
    return "not measured" if latency is None else f"{latency['p50_ms']:.0f}, {latency['p99_ms']:.0f}"


def estimate(found: Record | None) -> str:
    """A difference with its interval, in percentage points."""
    if found is None:
        return ""
    return f"{points(found['value'])} [{points(found['low'])}, {points(found['high'])}]"
