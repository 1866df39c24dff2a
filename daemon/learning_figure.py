"""A figure of success rates over iterations as SVG: lines with their 95 % intervals as whiskers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640.0, 360.0  # of the plot, user units
LEFT, TOP, LEGEND = 50.0, 40.0, 240.0  # margins
COLOURS = ("#1b1b1b", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f", "#e69f00", "#56b4e9")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve: (value, low, high) at iteration 1, 2, …, None where there is nothing to show."""

    name: str
    points: tuple[tuple[float, float, float] | None, ...]
    strong: bool = False
    dashed: bool = False

    @classmethod
    def of_rates(cls, name: str, rates: Sequence[Mapping[str, Any]], *, strong: bool = False) -> Line:
        """Success counts with their intervals, as REST tells them."""
        points = tuple(
            (rate["successes"] / rate["episodes"], rate["wilson_low"], rate["wilson_high"])
            if rate["episodes"]
            else None
            for rate in rates
        )
        return cls(name=name, points=points, strong=strong)

    @classmethod
    def of_values(cls, name: str, values: Sequence[float | None]) -> Line:
        """Plain shares, without interval."""
        points = tuple(None if value is None else (value, value, value) for value in values)
        return cls(name=name, points=points, dashed=True)


def figure(lines: Sequence[Line], *, title: str) -> str:
    """The whole picture as a document of its own."""
    count = max((len(line.points) for line in lines), default=1)
    body = [f'<text x="{LEFT}" y="22" font-size="16">{escape(title)}</text>', *axes(count)]
    for place, line in enumerate(lines):
        body += drawn(line, count=count, place=place)
    size = f'width="{WIDTH + LEFT + LEGEND:.0f}" height="{HEIGHT + TOP + 50:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>"]) + "\n"


def axes(count: int) -> list[str]:
    """Shares of 0 to 1 up, iterations to the right."""
    found = []
    for tenth in range(0, 11, 2):
        y = up(tenth / 10)
        found.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        found.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
    for index in range(count):
        x, y = across(index, count), TOP + HEIGHT + 18
        found.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{index + 1}</text>')
    found.append(f'<text x="{LEFT}" y="{TOP + HEIGHT + 38}">iteration</text>')
    return found


def drawn(line: Line, *, count: int, place: int) -> list[str]:
    """One curve, its whiskers and its entry in the legend."""
    colour, shift = COLOURS[place % len(COLOURS)], 3.0 * place  # so that whiskers do not hide each other
    stroke = f'stroke="{colour}" stroke-width="{3 if line.strong else 1.5}" fill="none"'
    stroke += ' stroke-dasharray="6 4"' if line.dashed else ""
    shown = [(across(i, count) + shift, point) for i, point in enumerate(line.points) if point is not None]
    corners = " ".join(f"{x:.1f},{up(point[0]):.1f}" for x, point in shown)
    found = [f'<polyline points="{corners}" {stroke}/>']
    for x, (_, low, high) in shown:
        if low < high:
            ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{up(low):.1f}" y2="{up(high):.1f}"'
            found.append(f'<line {ends} stroke="{colour}" stroke-width="1" opacity="0.6"/>')
    y = TOP + 12 + 20 * place
    x = LEFT + WIDTH + 16
    found.append(f'<line x1="{x}" x2="{x + 24}" y1="{y}" y2="{y}" {stroke}/>')
    found.append(f'<text x="{x + 30}" y="{y + 4}">{escape(line.name)}</text>')
    return found


def across(index: int, count: int) -> float:
    return LEFT + 12 + (WIDTH - 48) * index / max(1, count - 1)


def up(share: float) -> float:
    return TOP + HEIGHT * (1 - share)
