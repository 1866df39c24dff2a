"""The few pieces of MJCF text that scene and fixtures are written in."""

from __future__ import annotations

from collections.abc import Sequence

from robot_bridge.drivers.cell import Vector


def row(numbers: Sequence[float]) -> str:
    """Numbers as an attribute's value; six digits are a micrometre at the size of the cell."""
    return " ".join(f"{number:.6g}" for number in numbers)


def rgba(colour: Vector) -> str:
    """A plain, opaque colour."""
    return f'rgba="{row(colour)} 1"'


def box(name: str, colour: Vector, *, at: Sequence[float], half: Sequence[float]) -> str:
    """A box by its centre [3] and half sizes [3], metres."""
    return f'<geom name="{name}" type="box" pos="{row(at)}" size="{row(half)}" {rgba(colour)}/>\n'


def capsule(name: str, colour: Vector, *, ends: tuple[Vector, Vector], radius: float) -> str:
    """A capsule between two points [3], metres."""
    line = f"{row(ends[0])} {row(ends[1])}"
    return f'<geom name="{name}" type="capsule" fromto="{line}" size="{radius}" {rgba(colour)}/>\n'
