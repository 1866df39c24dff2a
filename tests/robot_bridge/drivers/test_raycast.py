"""The ray caster's pictures: light, places and sizes, and the same picture for the same state."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from robot_bridge.drivers import raycast
from robot_bridge.drivers.cell import CellVariant, cell_variant, nominal_cell
from robot_bridge.drivers.kinematics import FINGER_HIGH
from robot_bridge.drivers.raycast import RayCaster
from robot_bridge.drivers.scene import CAMERA_FOCAL, scene_xml


def a_scene(name="trays", variant=None, **placed):
    """Model and state with the arm folded away, so that nothing hides the table."""
    model = mujoco.MjModel.from_xml_string(scene_xml(name, variant or nominal_cell()))
    state = mujoco.MjData(model)
    state.qpos[:8] = [1.6, -1.8, 1.55, 0.0, 0.8, 0.0, FINGER_HIGH, FINGER_HIGH]
    for joint, value in placed.items():
        state.joint(joint).qpos[:] = value
    mujoco.mj_forward(model, state)
    return model, state


def pixel_of(state, point, size):
    """Row and column at which a world point appears, worked out from the pinhole alone."""
    camera = state.camera("primary")
    x, y, z = camera.xmat.reshape(3, 3).T @ (np.asarray(point) - camera.xpos)
    column = (x / -z * CAMERA_FOCAL / 640 + 0.5) * size
    line = (0.5 - y / -z * CAMERA_FOCAL / 480) * size
    return int(line), int(column)


def lambert(variant, colour, normal):
    light = -np.array(variant.light_direction) / np.linalg.norm(variant.light_direction)
    shade = variant.ambient + variant.diffuse * max(0.0, float(light @ normal))
    return np.clip(np.array(colour) * shade, 0.0, 1.0) * 255.0


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_the_table_has_its_colour_times_the_light_that_falls_on_it(seed):
    variant = cell_variant(seed)
    model, state = a_scene("drawer", variant)
    picture = RayCaster(model, size=64).render(state)
    expected = lambert(variant, variant.palette.table, np.array([0.0, 0.0, 1.0]))
    assert picture[40, 40] == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize(
    ("point", "colour", "normal"),
    [
        ((0.285, -0.06, 0.004), "sink", (0.0, 0.0, 1.0)),
        ((0.330, 0.105, 0.004), "basket", (0.0, 0.0, 1.0)),
        ((0.305, -0.105, 0.042), "eggplant", (0.0, 0.0, 1.0)),
    ],
)
def test_things_appear_where_the_pinhole_puts_them(size, point, colour, normal):
    variant = nominal_cell()
    model, state = a_scene(eggplant=[0.305, -0.105, 0.023, 1, 0, 0, 0])
    line, column = pixel_of(state, point, size)
    expected = lambert(variant, getattr(variant.palette, colour), np.array(normal))
    assert RayCaster(model, size=size).render(state)[line, column] == pytest.approx(expected, abs=16.0)


def test_a_surface_turned_away_from_the_lamp_gets_only_the_even_light():
    variant = CellVariant(light_direction=(0.0, 0.0, 1.0))  # from below
    model, state = a_scene("drawer", variant)
    picture = RayCaster(model, size=32).render(state)
    expected = np.array(variant.palette.table) * variant.ambient * 255.0
    assert picture[20, 20] == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize("size", [8, 64, 128, 129, 200, 256])
def test_pictures_have_the_size_asked_for(size):
    model, state = a_scene()
    picture = RayCaster(model, size=size).render(state)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous


def test_large_pictures_repeat_the_pixels_of_smaller_ones():
    model, state = a_scene()
    small, large = (RayCaster(model, size=size).render(state) for size in (128, 256))
    assert raycast.TRACED == 128
    assert (large[::2, ::2] == small).all()
    assert (large[1::2, 1::2] == small).all()


def test_the_same_state_gives_the_same_picture_and_a_moved_thing_another():
    model, state = a_scene("drawer", drawer=[0.0])
    caster = RayCaster(model, size=64)
    before, again = caster.render(state), caster.render(state)
    state.joint("drawer").qpos[0] = 0.12
    mujoco.mj_forward(model, state)
    after = caster.render(state)
    assert (before == again).all()
    assert (before != after).any()
