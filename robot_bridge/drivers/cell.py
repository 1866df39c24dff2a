"""What makes one robot cell differ from the next: camera, colours, light, friction, latency, furniture.

Numbers only; `scene` turns them into a model. Policies and world models are pretrained on some variants and
meet another one in the field: that gap is what the daemon closes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

Vector = tuple[float, float, float]

COLOUR_JITTER: Final = 0.07  # of each channel, in 0..1
CAMERA_SHIFT: Final = 0.010  # metres
CAMERA_TURN: Final = 0.020  # radians
FIXTURE_SHIFT: Final = 0.012  # metres, in the table plane
LIGHT_TURN: Final = 0.35  # of the light direction's horizontal part
MAX_LATENCY: Final = 0.06  # seconds from a command to the first motion


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Colours of the things in the cell, red green blue in 0..1."""

    table: Vector = (0.76, 0.71, 0.62)
    arm: Vector = (0.16, 0.16, 0.19)
    cabinet: Vector = (0.24, 0.36, 0.40)
    drawer: Vector = (0.92, 0.38, 0.14)
    drawer_inside: Vector = (0.97, 0.95, 0.90)
    handle: Vector = (0.93, 0.93, 0.93)
    sink: Vector = (0.16, 0.45, 0.92)
    basket: Vector = (0.97, 0.82, 0.10)
    eggplant: Vector = (0.42, 0.05, 0.40)
    stem: Vector = (0.25, 0.62, 0.20)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellVariant:
    """One cell.

    Attributes:
        seed: which variant this is; 0 is the nominal cell.
        camera_shift: metres, added to the nominal camera position.
        camera_turn: radians, rotation vector in the camera's own axes.
        light_direction: from the light to the scene, any length.
        ambient, diffuse: strength of the even and of the directional light; their sum is about 1.
        friction: factor on the friction of fingertips, drawer and objects.
        latency_s: seconds from a command to the first motion of the arm.
        fixture_shift: metres along x and y by which drawer, sink and basket stand off their nominal place.
    """

    seed: int = 0
    camera_shift: Vector = (0.0, 0.0, 0.0)
    camera_turn: Vector = (0.0, 0.0, 0.0)
    palette: Palette = field(default_factory=Palette)
    light_direction: Vector = (0.35, 0.45, -1.0)
    ambient: float = 0.45
    diffuse: float = 0.55
    friction: float = 1.0
    latency_s: float = 0.02
    fixture_shift: tuple[float, float] = (0.0, 0.0)


def nominal_cell() -> CellVariant:
    """The cell as it is drawn in the documents."""
    return CellVariant()


def cell_variant(seed: int) -> CellVariant:
    """The cell of a seed; the same seed always gives the same cell, and seed 0 the nominal one."""
    if seed == 0:
        return nominal_cell()
    rng = np.random.default_rng([seed, 0xCE11])
    ambient = float(rng.uniform(0.36, 0.54))
    shift = rng.uniform(-FIXTURE_SHIFT, FIXTURE_SHIFT, 2)
    return CellVariant(
        seed=seed,
        camera_shift=_vector(rng.uniform(-CAMERA_SHIFT, CAMERA_SHIFT, 3)),
        camera_turn=_vector(rng.uniform(-CAMERA_TURN, CAMERA_TURN, 3)),
        palette=_repaint(Palette(), rng),
        light_direction=_vector(np.array([0.35, 0.45, -1.0]) + rng.uniform(-LIGHT_TURN, LIGHT_TURN, 3)),
        ambient=ambient,
        diffuse=float(rng.uniform(0.92, 1.04)) - ambient,
        friction=float(rng.uniform(0.75, 1.3)),
        latency_s=float(rng.uniform(0.0, MAX_LATENCY)),
        fixture_shift=(float(shift[0]), float(shift[1])),
    )


def _repaint(palette: Palette, rng: np.random.Generator) -> Palette:
    def jitter(colour: Vector) -> Vector:
        moved = np.asarray(colour) + rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, 3)
        return _vector(np.clip(moved, 0.02, 0.98))

    return Palette(**{name: jitter(getattr(palette, name)) for name in Palette.__dataclass_fields__})


def _vector(numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Vector:
    x, y, z = (float(number) for number in numbers)
    return x, y, z
