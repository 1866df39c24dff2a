from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from robot_bridge.drivers import cell
from robot_bridge.drivers.cell import CellVariant, Palette, cell_variant, nominal_cell

MANY = [cell_variant(seed) for seed in range(1, 120)]


def test_seed_zero_is_the_nominal_cell():
    assert cell_variant(0) == nominal_cell() == CellVariant()


@pytest.mark.parametrize("seed", [1, 7, 123456789])
def test_a_seed_always_gives_the_same_cell(seed):
    assert cell_variant(seed) == cell_variant(seed)
    assert hash(cell_variant(seed)) == hash(cell_variant(seed))
    assert cell_variant(seed).seed == seed


@pytest.mark.parametrize("name", [entry.name for entry in fields(CellVariant)])
def test_no_two_cells_share_a_number(name):
    assert len({getattr(variant, name) for variant in MANY}) == len(MANY)


@pytest.mark.parametrize("name", [entry.name for entry in fields(Palette)])
def test_every_colour_varies_a_little_and_stays_a_colour(name):
    colours = np.array([getattr(variant.palette, name) for variant in MANY])
    nominal = np.array(getattr(Palette(), name))
    assert colours.min() >= 0.0
    assert colours.max() <= 1.0
    assert np.abs(colours - nominal).max() <= cell.COLOUR_JITTER + 1e-9
    assert (colours.std(axis=0) > 0.01).all()


def test_camera_light_and_furniture_stay_near_their_nominal_place():
    for variant in MANY:
        assert np.abs(variant.camera_shift).max() <= cell.CAMERA_SHIFT
        assert np.abs(variant.camera_turn).max() <= cell.CAMERA_TURN
        assert np.abs(variant.fixture_shift).max() <= cell.FIXTURE_SHIFT
        assert variant.light_direction[2] < -0.5, "the lamp hangs above the table"


def test_pictures_are_neither_dark_nor_burnt_out():
    for variant in MANY:
        assert 0.9 < variant.ambient + variant.diffuse < 1.06
        assert min(variant.ambient, variant.diffuse) > 0.3


def test_friction_and_latency_vary_within_what_the_tasks_bear():
    frictions = [variant.friction for variant in MANY]
    latencies = [variant.latency_s for variant in MANY]
    assert 0.7 < min(frictions) < 0.85
    assert 1.2 < max(frictions) < 1.35
    assert 0.0 <= min(latencies) < 0.01
    assert 0.05 < max(latencies) <= cell.MAX_LATENCY


def test_a_cell_cannot_be_changed_after_it_was_made():
    with pytest.raises(AttributeError):
        nominal_cell().friction = 2.0


@pytest.mark.parametrize("ordinary", ["eggplant", "sink", "basket", "drawer"])
def test_things_stay_apart_from_the_table_in_colour(ordinary):
    for variant in MANY:
        gap = np.abs(np.subtract(getattr(variant.palette, ordinary), variant.palette.table)).max()
        assert gap > 0.15
