from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from robot_bridge.drivers.mjcf import box, capsule, rgba, row


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((1.0, 2.5, -0.25), "1 2.5 -0.25"), ([0.1 + 0.2], "0.3"), (np.array([1e-9, 0.0]), "1e-09 0"), ([], "")],
)
def test_a_row_is_plain_numbers_between_blanks(numbers, text):
    assert row(numbers) == text


def test_colours_are_opaque():
    assert rgba((0.1, 0.2, 0.3)) == 'rgba="0.1 0.2 0.3 1"'


def test_a_box_says_its_centre_half_sizes_and_colour():
    shape = ElementTree.fromstring(box("lid", (1.0, 0.0, 0.0), at=(1, 2, 3), half=(0.1, 0.2, 0.3)))  # noqa: S314
    assert shape.attrib == {
        "name": "lid",
        "type": "box",
        "pos": "1 2 3",
        "size": "0.1 0.2 0.3",
        "rgba": "1 0 0 1",
    }


def test_a_capsule_runs_from_one_end_to_the_other():
    text = capsule("bar", (0.0, 1.0, 0.0), ends=((0.0, 0.0, 0.0), (1.0, 0.0, 0.5)), radius=0.01)
    shape = ElementTree.fromstring(text)  # noqa: S314
    assert shape.attrib["fromto"] == "0 0 0 1 0 0.5"
    assert shape.attrib["size"] == "0.01"
