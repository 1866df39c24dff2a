from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from robot_bridge.drivers import fixtures
from robot_bridge.drivers.cell import CellVariant, cell_variant, nominal_cell
from robot_bridge.drivers.kinematics import FINGER_HIGH, FINGER_LOW
from robot_bridge.drivers.scene import PAD_HALF, PAD_INNER


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<all>{text}</all>")  # noqa: S314 - our own text


@pytest.mark.parametrize("write", [fixtures.drawer_xml, fixtures.trays_xml, fixtures.eggplant_xml])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_furniture_is_well_formed_and_made_of_plain_primitives(write, seed):
    shapes = list(parsed(write(cell_variant(seed))).iter("geom"))
    assert shapes
    for shape in shapes:
        assert shape.get("type") in {"box", "capsule", "sphere"}
        assert shape.get("material") is None
        assert shape.get("rgba", "").endswith(" 1"), "opaque"


@pytest.mark.parametrize("write", [fixtures.drawer_xml, fixtures.trays_xml])
def test_furniture_stands_where_the_cell_shifts_it(write):
    moved = CellVariant(fixture_shift=(0.01, -0.02))
    for before, after in zip(
        parsed(write(nominal_cell())).findall("body"), parsed(write(moved)).findall("body"), strict=True
    ):
        places = [np.array(body.get("pos", "").split(), dtype=float) for body in (before, after)]
        assert places[1] - places[0] == pytest.approx([0.01, -0.02, 0.0])


def test_the_trays_do_not_overlap():
    sink_edge = fixtures.SINK_CENTRE[1] + fixtures.SINK_HALF[1] + fixtures.TRAY_THICKNESS
    basket_edge = fixtures.BASKET_CENTRE[1] - fixtures.BASKET_HALF[1] - fixtures.TRAY_THICKNESS
    assert sink_edge < basket_edge


def test_the_open_gripper_spans_an_eggplant_turned_by_25_degrees_and_the_shut_one_does_not():
    gap_open, gap_shut = 2 * (FINGER_HIGH - PAD_INNER), 2 * (FINGER_LOW - PAD_INNER)
    across = 2 * fixtures.EGGPLANT_RADIUS / np.cos(np.deg2rad(25.0))
    assert gap_shut < 2 * fixtures.EGGPLANT_RADIUS
    assert across + 0.008 < gap_open


def test_the_fingers_fit_around_the_bar_and_between_bar_and_drawer():
    behind_bar = fixtures.CABINET_FRONT_Y - 0.010 - fixtures.HANDLE_Y  # to the drawer's front panel
    assert 2 * fixtures.HANDLE_RADIUS < 2 * (FINGER_HIGH - PAD_INNER)
    assert 2 * fixtures.HANDLE_RADIUS > 2 * (FINGER_LOW - PAD_INNER), "shut fingers hold the bar"
    assert FINGER_HIGH - PAD_INNER + 2 * PAD_HALF[1] < behind_bar


def test_a_closed_drawer_is_inside_its_cabinet_and_an_open_one_still_hangs_in_it():
    assert 2 * fixtures.CABINET_HALF[1] >= fixtures.DRAWER_DEPTH
    assert fixtures.DRAWER_TRAVEL < fixtures.DRAWER_DEPTH
    assert fixtures.CABINET_HALF[0] > fixtures.DRAWER_HALF_X
