"""Training curves of a phase run: one JSON object per moment, appended to a file, read back as points.

A line is `{"at": "2026-01-01T12:00:00+00:00", "update": 40, "loss": 0.12}`; `update` (or `episode`) is the
axis, every other number a curve.
"""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

TIME = "at"
AXES = ("update", "episode")
MOST_POINTS = 500  # of one curve; more than any picture of it shows

Points = list[tuple[float, float]]


def curves_path(data_dir: Path, phase_run_id: str) -> Path:
    """Where the curves of one phase run are."""
    return data_dir / "runs" / phase_run_id / "metrics.jsonl"


def append_moment(path: Path, values: Mapping[str, float], *, now: datetime) -> None:
    """Add one moment. Numbers that are not finite are left out: a curve cannot show them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({TIME: now.isoformat(), **finite(values)})
    with path.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """The values that are numbers one can plot."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def read_curves(path: Path) -> dict[str, Points]:
    """Read every curve of a file that may still grow: no file gives none, a torn line is left out."""
    curves: dict[str, Points] = {}
    for index, moment in enumerate(moments(path)):
        at = next((moment[axis] for axis in AXES if axis in moment), float(index))
        for name, value in moment.items():
            if name not in (*AXES, TIME):
                curves.setdefault(name, []).append((at, value))
    return {name: thinned(points) for name, points in curves.items()}


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """Keep at most `most` points, evenly spread, the first and the last among them."""
    if len(points) <= most:
        return points
    step = (len(points) - 1) / (most - 1)
    return [points[round(index * step)] for index in range(most)]


def moments(path: Path) -> list[dict[str, Any]]:
    """Every moment of a file that may still grow: no file has none, a torn line is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    moments = []
    for line in lines:
        try:
            moments.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # a line that a killed worker did not finish
    return moments
