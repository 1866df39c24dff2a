"""Training curves of a phase run: one JSON object per moment, appended to a file, read back as points.

A line is `{"at": "2026-01-01T12:00:00+00:00", "update": 40, "loss": 0.12}`; `update` (or `episode`) is the
axis, every other number a curve.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

TIME = "at"
AXES = ("update", "episode")
MOST_POINTS = 500  # of one curve; more than any picture of it shows

Points = list[tuple[float, float]]
PlacedMoment = tuple[float, dict[str, Any]]


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
    found = placed_moments(path)
    return {name: curve(found, name) for name in lengths(found)}


def placed_moments(path: Path) -> list[PlacedMoment]:
    """Every moment of such a file without its time, and where on the axis it is."""
    return [(_place(moment, index), moment) for index, moment in enumerate(moments(path))]


def lengths(found: Sequence[PlacedMoment]) -> Counter[str]:
    """How many points each curve has, in the order in which they began."""
    return Counter(chain.from_iterable(moment for _, moment in found))


def curve(found: Sequence[PlacedMoment], name: str, *, most: int = MOST_POINTS) -> Points:
    """One of the curves, thinned to at most `most` points, as `telling`."""
    return thinned([(at, moment[name]) for at, moment in found if name in moment], most)


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """Keep at most `most` points, as `telling`."""
    return [points[index] for index in telling([y for _, y in points], most)]


def telling(values: Sequence[float], most: int) -> Sequence[int]:
    """Which of these values to draw where only `most` fit, so that no spike is lost.

    Returns:
        Indices, rising: the first, the last, and the lowest and the highest of each stretch between them.
    """
    if len(values) <= most:
        return range(len(values))
    inner, stretches = len(values) - 2, max(1, (most - 2) // 2)
    ends = [1 + inner * place // stretches for place in range(stretches + 1)]
    kept = {0, len(values) - 1}
    for begin, end in pairwise(ends):
        stretch = range(begin, end)
        kept |= {min(stretch, key=values.__getitem__), max(stretch, key=values.__getitem__)}
    return sorted(kept)


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


def _place(moment: dict[str, Any], index: int) -> float:
    """Take time and axis out of a moment."""
    moment.pop(TIME, None)
    at = [moment.pop(axis) for axis in AXES if axis in moment]
    return float(at[0]) if at else float(index)
