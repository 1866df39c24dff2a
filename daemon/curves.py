"""Training curves of a phase run: one JSON object per moment, appended to a file, read back as points.

A line is `{"update": 40, "loss": 0.12, ...}`; `update` (or `episode`) is the axis, every other name a curve.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

AXES = ("update", "episode")

Points = list[tuple[float, float]]


def curves_path(data_dir: Path, phase_run_id: str) -> Path:
    """Where the curves of one phase run are."""
    return data_dir / "curves" / f"{phase_run_id}.jsonl"


def append_moment(path: Path, values: Mapping[str, float]) -> None:
    """Add one moment. Numbers that are not finite are left out: a curve cannot show them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(finite) + "\n")


def read_curves(path: Path) -> dict[str, Points]:
    """Read every curve of a file that may still grow: no file gives none, a torn line is left out."""
    curves: dict[str, Points] = {}
    for index, moment in enumerate(_moments(path)):
        at = next((moment[axis] for axis in AXES if axis in moment), float(index))
        for name, value in moment.items():
            if name not in AXES:
                curves.setdefault(name, []).append((at, value))
    return curves


def _moments(path: Path) -> list[dict[str, float]]:
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
