"""The furniture of the cell as MJCF text: drawer, sink, basket, eggplant, each with its measures.

Lengths are metres in the robot's base frame (x forward, y left, table top at z = 0). Everything is a
primitive shape with a plain colour, because both renderers must draw it alike.
"""

from __future__ import annotations

from typing import Final

from robot_bridge.drivers.cell import CellVariant, Vector
from robot_bridge.drivers.mjcf import box, capsule, rgba

# Drawer: a cabinet whose drawer slides towards -y; its handle is a bar along x that the fingers straddle.
CABINET_X: Final = 0.325
CABINET_FRONT_Y: Final = 0.115
CABINET_HALF: Final = (0.095, 0.08, 0.055)
DRAWER_HALF_X: Final = 0.080
DRAWER_HALF_Z: Final = 0.040
DRAWER_DEPTH: Final = 0.150
DRAWER_TRAVEL: Final = 0.140
HANDLE_Y: Final = 0.060  # of the bar's centre, drawer closed
HANDLE_Z: Final = 0.065
HANDLE_RADIUS: Final = 0.007
HANDLE_HALF: Final = 0.050
DRAWER_MASS: Final = 0.35  # kg
DRAWER_DAMPING: Final = 3.0  # N s/m
DRAWER_FRICTION: Final = 0.6  # N

# Sink (blue tray) and basket (yellow, low walls): centre and inner half size in the table plane.
SINK_CENTRE: Final = (0.305, -0.105)
SINK_HALF: Final = (0.085, 0.075)
SINK_WALL: Final = 0.022
BASKET_CENTRE: Final = (0.305, 0.085)
BASKET_HALF: Final = (0.072, 0.062)
BASKET_WALL: Final = 0.032
TRAY_FLOOR: Final = 0.004
TRAY_THICKNESS: Final = 0.006

# Eggplant: a capsule along its own x axis, 78 mm long and 38 mm thick, with a stem that touches nothing.
EGGPLANT_RADIUS: Final = 0.019
EGGPLANT_HALF: Final = 0.020
EGGPLANT_DENSITY: Final = 400.0  # kg/m³

OBJECT_FRICTION: Final = (1.0, 0.02, 0.001)  # sliding, torsional (m), rolling (m)


def drawer_xml(variant: CellVariant) -> str:
    """Cabinet and drawer; the joint `drawer` is 0 closed and grows as the drawer comes out, metres."""
    shift_x, shift_y = variant.fixture_shift
    palette = variant.palette
    half_x, half_y, half_z = CABINET_HALF
    wall = 0.006
    shell = "".join(
        box(name, palette.cabinet, at=position, half=half)
        for name, position, half in (
            ("cabinet_left", (-half_x + wall, half_y, half_z), (wall, half_y, half_z)),
            ("cabinet_right", (half_x - wall, half_y, half_z), (wall, half_y, half_z)),
            ("cabinet_top", (0.0, half_y, 2 * half_z - wall), (half_x, half_y, wall)),
            ("cabinet_back", (0.0, 2 * half_y - wall, half_z), (half_x, wall, half_z)),
        )
    )
    return f"""
    <body name="cabinet" pos="{CABINET_X + shift_x} {CABINET_FRONT_Y + shift_y} 0">
      {shell}
      <body name="drawer" pos="0 0 0">
        <joint name="drawer" type="slide" axis="0 -1 0" range="0 {DRAWER_TRAVEL}"
          damping="{DRAWER_DAMPING * variant.friction}" frictionloss="{DRAWER_FRICTION * variant.friction}"/>
        <inertial pos="0 0.06 0.05" mass="{DRAWER_MASS}" diaginertia="0.002 0.002 0.002"/>
        {_drawer_shapes(variant)}
      </body>
    </body>"""


def _drawer_shapes(variant: CellVariant) -> str:
    palette = variant.palette
    middle, bottom = DRAWER_DEPTH / 2, 0.010
    side_z = bottom + 0.030
    reach = HANDLE_Y - CABINET_FRONT_Y  # bar centre, relative to the cabinet's front
    inside = palette.drawer_inside
    boxes = "".join(
        box(name, colour, at=position, half=half)
        for name, position, half, colour in (
            (
                "drawer_front",
                (0.0, -0.005, bottom + DRAWER_HALF_Z),
                (0.088, 0.005, DRAWER_HALF_Z),
                palette.drawer,
            ),
            ("drawer_floor", (0.0, middle, bottom + 0.003), (DRAWER_HALF_X, middle, 0.003), inside),
            ("drawer_left", (-DRAWER_HALF_X + 0.003, middle, side_z), (0.003, middle, 0.030), inside),
            ("drawer_right", (DRAWER_HALF_X - 0.003, middle, side_z), (0.003, middle, 0.030), inside),
            ("drawer_back", (0.0, DRAWER_DEPTH - 0.003, side_z), (DRAWER_HALF_X, 0.003, 0.030), inside),
        )
    )
    posts = "".join(
        capsule(
            f"handle_{side}", palette.handle, ends=((x, -0.008, HANDLE_Z), (x, reach, HANDLE_Z)), radius=0.005
        )
        for side, x in (("left", -HANDLE_HALF), ("right", HANDLE_HALF))
    )
    ends = ((-HANDLE_HALF, reach, HANDLE_Z), (HANDLE_HALF, reach, HANDLE_Z))
    bar = capsule("handle", palette.handle, ends=ends, radius=HANDLE_RADIUS)
    return boxes + posts + bar


def trays_xml(variant: CellVariant) -> str:
    """The blue sink and the yellow basket, fixed to the table."""
    shift_x, shift_y = variant.fixture_shift
    out = ""
    for name, centre, half, wall, colour in (
        ("sink", SINK_CENTRE, SINK_HALF, SINK_WALL, variant.palette.sink),
        ("basket", BASKET_CENTRE, BASKET_HALF, BASKET_WALL, variant.palette.basket),
    ):
        place = f"{centre[0] + shift_x} {centre[1] + shift_y} 0"
        out += f'<body name="{name}" pos="{place}">{_tray(name, colour, half=half, wall=wall)}</body>'
    return out


def _tray(name: str, colour: Vector, *, half: tuple[float, float], wall: float) -> str:
    half_x, half_y = half
    outer_x, outer_y = half_x + TRAY_THICKNESS, half_y + TRAY_THICKNESS
    edge = TRAY_THICKNESS / 2
    return "".join(
        box(f"{name}_{part}", colour, at=position, half=size)
        for part, position, size in (
            ("floor", (0.0, 0.0, TRAY_FLOOR / 2), (outer_x, outer_y, TRAY_FLOOR / 2)),
            ("near", (-half_x - edge, 0.0, wall / 2), (edge, outer_y, wall / 2)),
            ("far", (half_x + edge, 0.0, wall / 2), (edge, outer_y, wall / 2)),
            ("left", (0.0, half_y + edge, wall / 2), (half_x, edge, wall / 2)),
            ("right", (0.0, -half_y - edge, wall / 2), (half_x, edge, wall / 2)),
        )
    )


def eggplant_xml(variant: CellVariant) -> str:
    """The eggplant, free to move; its joint is called `eggplant`."""
    sliding, torsional, rolling = OBJECT_FRICTION
    tip = EGGPLANT_HALF + EGGPLANT_RADIUS * 0.85
    return f"""
    <body name="eggplant" pos="0.3 0 0.1">
      <freejoint name="eggplant"/>
      <geom name="eggplant" type="capsule" size="{EGGPLANT_RADIUS}" density="{EGGPLANT_DENSITY}"
        fromto="{-EGGPLANT_HALF} 0 0 {EGGPLANT_HALF} 0 0" {rgba(variant.palette.eggplant)} condim="6"
        friction="{sliding * variant.friction} {torsional} {rolling}"/>
      <geom name="eggplant_stem" type="sphere" size="0.011" pos="{tip} 0 0" {rgba(variant.palette.stem)}
        contype="0" conaffinity="0" mass="0"/>
    </body>"""
