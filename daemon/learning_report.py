"""What the learning proof tells of its iterations: numbers, a table, and what has become better or worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from daemon.demo import plain_rate

Record = Mapping[str, Any]


def points_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What each iteration says of the policy it began with, and of the world that the next was taught in."""
    points: list[dict[str, Any]] = []
    episodes = 0
    for record in records:
        episodes += episodes_of(record)
        trust = record["world_model"]["trust"] or {}
        points.append(
            {
                "iteration": record["number"],
                "real": record["success"],
                "trial": record["trial"],
                "mean": record["overall"],
                "imagined": record["imagined_success"],
                "overall": trust.get("overall"),
                "outcomes": trust.get("outcomes"),
                "closed_loop": trust.get("closed_loop"),
                "horizon": trust.get("horizon"),
                "world_model_accepted": (record["world_model"]["gate"] or {}).get("accepted"),
                "robot_episodes": episodes,
            }
        )
    return points


def episodes_of(record: Record) -> int:
    """Judged episodes that an iteration took of the robot's time, those of both policies of a trial."""
    trial = tried(record["trial"])
    by_task = trial.get("by_task")
    if not by_task:
        return int(record["overall"]["episodes"])
    before = (trial.get("carried") or {}).get("before", 0)  # those are of the iterations before
    every = sum(own[arm]["episodes"] for own in by_task.values() for arm in ("champion", "candidate"))
    return int(every - before)


def tried(trial: Record | None) -> Record:
    """An iteration's trial of a candidate, also where a rollback came after it; empty where nobody was tried.

    What a rollback itself rests on are episodes of all iterations.
    """
    if trial is not None and trial["decision"] == "rolled_back":
        trial = trial.get("tried")
    return trial or {}


def learning_table(arm: Record, *, title: str) -> Table:
    """One row per iteration."""
    shown = Table(title=f"{title}: {arm['cpu_minutes']:.1f} CPU minutes", title_justify="left")
    for column in columns_of(arm["points"]):
        shown.add_column(column)
    for row in rows_of(arm["points"]):
        shown.add_row(*(cell.replace("[", "\\[") for cell in row))
    return shown


def markdown(arm: Record, *, title: str) -> str:
    """The same as a table for a document."""
    columns, rows = columns_of(arm["points"]), rows_of(arm["points"])
    lines = [columns, ["---"] * len(columns), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{title}, {arm['cpu_minutes']:.1f} CPU minutes\n\n{table}"


OTHER_COLUMNS = ("imagined", "agreement", "optimism", "closed loop", "robot episodes")  # after real success


def columns_of(points: Sequence[Record]) -> list[str]:
    tasks = sorted({task for point in points for task in point["real"]})
    return ["iteration", *tasks, "all", "candidate", *OTHER_COLUMNS]


def rows_of(points: Sequence[Record]) -> list[list[str]]:
    """Real success of the policy that goes on; imagined success at the end of its update.

    Optimism is that of real actions imagined again; under "closed loop", that of the policy itself.
    """
    tasks = sorted({task for point in points for task in point["real"]})
    return [
        [
            str(point["iteration"]),
            *(plain_rate(point["real"].get(task)) for task in tasks),
            plain_rate(point["mean"]),
            (point["trial"] or {}).get("decision", "–"),
            number(imagined_mean(point)),
            number((point["overall"] or {}).get("agreement")),
            number((point["overall"] or {}).get("optimism"), signed=True),
            number(((point.get("closed_loop") or {}).get("overall") or {}).get("optimism"), signed=True),
            str(point["robot_episodes"]),
        ]
        for point in points
    ]


def imagined_mean(point: Record) -> float | None:
    """Imagined success over the last updates, mean of the tasks that were imagined."""
    known = [own["last"] for own in point["imagined"].values() if own["last"] is not None]
    return sum(known) / len(known) if known else None


def number(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:+.2f}" if signed else f"{value:.2f}"


def verdicts(arm: Record) -> list[str]:
    """Whether the last policy is better than the first beyond the intervals, in all and task by task."""
    first, last = arm["points"][0], arm["points"][-1]
    risen = last["mean"]["wilson_low"] > first["mean"]["wilson_high"]
    said = [
        f"all tasks: {plain_rate(first['mean'])} -> {plain_rate(last['mean'])}: "
        + ("better beyond the intervals" if risen else "the intervals overlap")
    ]
    if (last["trial"] or {}).get("decision") == "rolled_back":
        said.append(
            "the last iteration's policy was rolled back after these episodes: the one before goes on"
        )
    if tried(last["trial"]):
        said.append(
            "the last iteration tried a candidate: its episodes chose the policy that they are told of"
        )
    for task, before in sorted(first["real"].items()):
        after = last["real"][task]
        fallen = after["wilson_high"] < before["wilson_low"]
        change = f"{task}: {plain_rate(before)} -> {plain_rate(after)}"
        said.append(f"{change}{', worse beyond the intervals' if fallen else ''}")
    return said
