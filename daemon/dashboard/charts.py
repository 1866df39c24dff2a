"""Charts as coordinates: what is drawn where. The drawing itself is SVG in `templates/parts.html`.

They are made on the server, so that they need no script, print, and can be read aloud. A point may have an
interval; points of a series are joined in the order of x. The lowest value is at the bottom.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from daemon.curves import telling

WIDTH, HEIGHT = 640.0, 220.0  # user units of the SVG
LEFT, RIGHT, TOP, BOTTOM = 72.0, 24.0, 24.0, 32.0  # room for what stands beside the curves
MOST_TICKS = 8
MOST_DRAWN = 150  # points of a series: 36 charts of them are a page of 100 kB
TONES = ("a", "b", "c", "d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value, with its interval where it has one; `hollow` ones are not what went on."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    hollow: bool = False
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points under one name; `dots` draws each of them, with its interval."""

    name: str
    points: Sequence[Point]
    tone: str = "a"
    dots: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A vertical line with a word: something was decided here."""

    x: float
    says: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Series over one axis. `key` is unique on a page; without `span` the axis is as high as its values."""

    key: str
    title: str
    series: Sequence[Series]
    across: str = "iteration"
    span: tuple[float, float] | None = None
    marks: Sequence[Mark] = ()
    cursor: bool = False

    @property
    def width(self) -> float:
        return WIDTH

    @property
    def height(self) -> float:
        return HEIGHT

    @property
    def left(self) -> float:
        return LEFT

    @property
    def right(self) -> float:
        return WIDTH - RIGHT

    @property
    def bottom(self) -> float:
        return HEIGHT - BOTTOM

    @property
    def top(self) -> float:
        return TOP

    def at_x(self, x: float) -> float:
        """Where a value of the axis stands."""
        first, last = self._across
        share = (x - first) / (last - first) if last > first else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def at_y(self, y: float) -> float:
        """How high a value stands; what is beyond the chart stands at its edge."""
        low, high = self._up
        share = min(1.0, max(0.0, (y - low) / (high - low) if high > low else 0.5))
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def line(self, series: Series) -> str:
        """The points of a polyline."""
        return " ".join(f"{self.at_x(p.x)},{self.at_y(p.y)}" for p in drawn(series.points))

    @property
    def ticks_x(self) -> list[float]:
        """Values that are written under the axis: whole numbers, few enough to be read."""
        first, last = (round(end) for end in self._across)
        step = max(1, math.ceil((last - first + 1) / MOST_TICKS))
        return [float(x) for x in range(first, last + 1, step)]

    @property
    def ticks_y(self) -> list[float]:
        low, high = self._up
        return [low, (low + high) / 2, high] if high > low else [low]

    @property
    def legend(self) -> list[Series]:
        """One entry for every name."""
        return list({one.name: one for one in self.series}.values())

    @property
    def says(self) -> str:
        """The chart in a sentence, for whoever does not see it."""
        told = (
            f"{one.name}: {one.points[0].y:.3g} at {self.across} {one.points[0].x:g}, "
            f"{one.points[-1].y:.3g} at {one.points[-1].x:g}"
            for one in self.legend
            if one.points
        )
        return "; ".join(told)

    def _points(self) -> list[Point]:
        return [point for one in self.series for point in one.points]

    @cached_property  # of a chart's extent all its points are asked for, one by one
    def _across(self) -> tuple[float, float]:
        every = [point.x for point in self._points()]
        return (min(every), max(every)) if every else (0.0, 0.0)

    @cached_property
    def _up(self) -> tuple[float, float]:
        if self.span is not None:
            return self.span
        ends = [value for p in self._points() for value in (p.y, p.low, p.high) if value is not None]
        return (min(ends), max(ends)) if ends else (0.0, 0.0)


def drawn(points: Sequence[Point]) -> Sequence[Point]:
    """At most `MOST_DRAWN` of them, the first and the last among them, and every spike."""
    return [points[index] for index in telling([point.y for point in points], MOST_DRAWN)]


def points_of(curve: Mapping[str, Any] | Sequence[Sequence[float]]) -> list[Point]:
    """Points of a curve as reports and metrics keep them; what was not finite is left out."""
    pairs = ((float(x), y) for x, y in curve.items()) if isinstance(curve, Mapping) else curve
    return sorted((Point(x=x, y=y) for x, y in pairs if y is not None), key=lambda point: point.x)
