"""The page that an unattended run leaves behind: success with intervals, real beside imagined, curves.

One HTML file without a single outside reference, so that it can be mailed. It shows what the REST API said
and computes nothing of its own but the coordinates of the curves.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from daemon.trial import carried_text

CURVE_WIDTH = 260.0  # user units of the SVG
CURVE_HEIGHT = 80.0

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmStrip:
    """Frames of one held-out episode and what the world model made of the same start and actions."""

    iteration: int
    task: str
    real_jpeg: bytes
    imagined_jpeg: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One number over the updates of a phase."""

    iteration: int
    phase: str
    name: str
    points: Sequence[Point]

    @property
    def low(self) -> float:
        return min(value for _, value in self.points)

    @property
    def high(self) -> float:
        return max(value for _, value in self.points)

    @property
    def last(self) -> float:
        return self.points[-1][1]

    def polyline(self) -> str:
        """The points of an SVG polyline, the first update at the left and the highest value at the top."""
        first, final = self.points[0][0], self.points[-1][0]
        across = (final - first) or 1.0
        up = (self.high - self.low) or 1.0
        return " ".join(
            f"{(x - first) / across * CURVE_WIDTH:.1f},{(1 - (y - self.low) / up) * CURVE_HEIGHT:.1f}"
            for x, y in self.points
        )


def curves_of(iteration: int, recorded: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> list[Curve]:
    """Curves of `GET /v1/iterations/{n}/curves`, those with fewer than two points left out."""
    return [
        Curve(iteration=iteration, phase=phase, name=name, points=[(p[0], p[1]) for p in points])
        for phase, names in recorded.items()
        for name, points in sorted(names.items())
        if len(points) > 1
    ]


def drift_of(number: int, trust: Mapping[str, Any] | None) -> list[Curve]:
    """How imagination drifts from held-out episodes of an iteration, by step."""
    if trust is None:
        return []
    measures = {name: trust["drift"][name] for name in ("psnr", "ssim", "latents")}
    measures["latents with another episode's actions"] = trust["shuffled_latents"]
    found = {
        name: [(float(step), value) for step, value in curve.items() if value is not None]
        for name, curve in measures.items()
    }
    return [
        Curve(iteration=number, phase="drift", name=name, points=sorted(points))
        for name, points in found.items()
        if len(points) > 1
    ]


def render_report(summary: Mapping[str, Any], *, strips: Sequence[FilmStrip], curves: Sequence[Curve]) -> str:
    """The whole page as text. `summary` is what `summary.json` holds."""
    environment = Environment(
        loader=PackageLoader("daemon", "templates"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["data_url"] = lambda jpeg: (
        "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
    )
    environment.filters["carried_text"] = carried_text
    environment.globals["drift_of"] = drift_of
    page = environment.get_template("report.html")
    return page.render(
        summary=summary,
        strips=strips,
        curves=curves,
        curve_width=CURVE_WIDTH,
        curve_height=CURVE_HEIGHT,
    )
