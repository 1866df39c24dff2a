"""What the commands of `cli_lab.py` and `cli_pictures.py` show on a terminal: the columns of their tables."""

from collections.abc import Mapping
from typing import Any

from daemon.console import moment
from daemon.console_look import CHECKPOINTS, Columns, part_of, percentiles

Record = Mapping[str, Any]

POLICIES: Columns = {
    "policy": CHECKPOINTS["checkpoint"],
    "number": CHECKPOINTS["number"],
    "champion of": lambda row: ", ".join(row["champion_of"]),
    "lineage": lambda row: row["lineage"] or "any",
    "iteration": CHECKPOINTS["iteration"],
    "parent": CHECKPOINTS["parent"],
    "made": CHECKPOINTS["made"],
    "retired": CHECKPOINTS["retired"],
}
JUDGES: Columns = {
    "judge": CHECKPOINTS["checkpoint"],
    "number": CHECKPOINTS["number"],
    "asked by": lambda row: ", ".join(row["current_of"]),
    "lineage": lambda row: row["lineage"] or "any",
    "iteration": CHECKPOINTS["iteration"],
    "made": CHECKPOINTS["made"],
    "retired": CHECKPOINTS["retired"],
}
STATIONS: Columns = {
    "station": lambda row: row["id"],
    "robot": lambda row: str(row["description"].get("robot_model") or ""),
    "seen": lambda row: moment(row["last_seen_at"]),
    "episodes": lambda row: str(row["health"]["episodes"]),
    "invalid": lambda row: part_of(row["health"]["invalid"], row["health"]["episodes"]),
    "measured": lambda row: str(row["health"]["measured"]),
    "steps cut": lambda row: part_of(row["health"]["cut_steps"], row["health"]["steps"]),
    "by stage": lambda row: ", ".join(f"{stage} {steps}" for stage, steps in row["health"]["cuts"].items()),
    "policy, ms": lambda row: percentiles(row["health"]["inference"]),
    "step, ms": lambda row: percentiles(row["health"]["step"]),
}
TASKS: Columns = {
    "task": lambda row: row["id"],
    "instruction": lambda row: row["instruction"],
    "registered": lambda row: moment(row["registered_at"]),
}
ACTS: Columns = {
    "at": lambda row: moment(row["at"]),
    "who": lambda row: row["actor"],
    "did": lambda row: row["action"].replace("_", " "),
    "to": lambda row: row["subject"],
    "facts": lambda row: ", ".join(f"{name} {value}" for name, value in sorted(row["facts"].items())),
}
START_IMAGES: Columns = {
    "start image": lambda row: row["id"],
    "task": lambda row: row["task"],
    "instruction": lambda row: row["instruction"],
    "pixels": lambda row: f"{row['width']} x {row['height']}",
    "by": lambda row: row["added_by"],
    "added": lambda row: moment(row["added_at"]),
}
CAMERAS: Columns = {
    "camera": lambda row: str(row["place"]),
    "station": lambda row: row["address"],
    "state": lambda row: row["state"],
    "says": lambda row: row["says"],
}


def imagined(row: Record) -> str:
    """The imagined successes of a what-if, as far as it has come."""
    rate = (row["result"] or {}).get("rate")
    return "" if rate is None else f"{rate['successes']}/{rate['judged']}"


WHAT_IFS: Columns = {
    "what-if": lambda row: row["id"],
    "state": lambda row: row["state"],
    "instruction": lambda row: row["instruction"],
    "rollouts": lambda row: str(row["rollouts"]),
    "imagined": imagined,
    "by": lambda row: row["requested_by"],
    "asked": lambda row: moment(row["requested_at"]),
}
