from __future__ import annotations

import threading

import mujoco
import numpy as np
import pytest

from robot_bridge.drivers import rendering
from robot_bridge.drivers.cell import cell_variant
from robot_bridge.drivers.kinematics import FINGER_HIGH
from robot_bridge.drivers.mujoco_widowx import NEAR_HOME, MujocoWidowX
from robot_bridge.drivers.rendering import gl_library, open_renderer
from robot_bridge.drivers.scene import scene_xml
from robot_bridge.errors import RendererUnavailable


@pytest.fixture
def needs_gl():
    if gl_library() is None:
        pytest.skip("no OpenGL starts on this machine")


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(scene_xml("drawer", cell_variant(0)))


def small(picture):
    """64x64 area average of a 256x256 picture."""
    return picture.reshape(64, 4, 64, 4, 3).astype(np.float64).mean(axis=(1, 3))


def pictures_of(renderer, *, cell_seed, player):
    """Every tenth picture of one episode of each scene, downsized."""
    driver = MujocoWidowX(cell=cell_variant(cell_seed), renderer=renderer)
    taken = []
    for task_id in ("open_drawer", "put_eggplant_blue_sink"):
        player(driver, task_id, seed=4, steps=0)
        for _ in range(3):
            outcome = driver.step(driver.target, 1.0)
            taken.append(small(outcome.sample.image))
    driver.close()
    return np.stack(taken)


@pytest.mark.parametrize("cell_seed", [0, 3, 9])
def test_both_renderers_show_nearly_the_same_colours(needs_gl, cell_seed, player):
    drawn = pictures_of("gl", cell_seed=cell_seed, player=player)
    cast = pictures_of("raycast", cell_seed=cell_seed, player=player)
    gaps = np.abs(drawn - cast).mean(axis=(1, 2, 3))
    assert gaps.max() < 2.0  # of 255; the contract is 6
    assert np.median(np.abs(drawn - cast)) < 1.0


@pytest.mark.parametrize("word", ["disabled", "off", "glfw", "nonsense"])
def test_without_gl_pictures_are_cast(monkeypatch, model, word):
    monkeypatch.setenv("MUJOCO_GL", word)
    assert gl_library() is None
    assert open_renderer(model, choice="auto", size=16).name == "raycast"


def test_asking_for_gl_where_there_is_none_says_why(monkeypatch, model):
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    with pytest.raises(RendererUnavailable, match="MUJOCO_GL=disabled does not start") as refusal:
        open_renderer(model, choice="gl", size=16)
    assert refusal.value.code == "renderer_unavailable"


def test_a_library_that_does_not_start_is_passed_over(monkeypatch, model):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "GL_LIBRARIES", ("no_such_library",))
    assert gl_library() is None
    with pytest.raises(RendererUnavailable, match="neither EGL nor OSMesa starts"):
        open_renderer(model, choice="gl", size=16)
    assert open_renderer(model, choice="auto", size=16).name == "raycast"


def test_a_library_named_in_the_environment_is_the_one_used(needs_gl, monkeypatch, model):
    library = gl_library()
    monkeypatch.setenv("MUJOCO_GL", library.upper())
    renderer = open_renderer(model, choice="auto", size=16)
    assert renderer.name == f"gl-{library}"
    renderer.close()


def test_rays_are_cast_when_asked_for_even_where_gl_works(model):
    assert open_renderer(model, choice="raycast", size=16).name == "raycast"


def test_any_thread_may_ask_a_gl_renderer_for_pictures(needs_gl, model):
    renderer = open_renderer(model, choice="gl", size=32)
    state = mujoco.MjData(model)
    mujoco.mj_forward(model, state)
    here, elsewhere = renderer.render(state), []
    for _ in range(2):
        worker = threading.Thread(target=lambda: elsewhere.append(renderer.render(state)))
        worker.start()
        worker.join()
    renderer.close()
    assert len(elsewhere) == 2
    assert all((picture == here).all() for picture in elsewhere)


def test_two_gl_renderers_do_not_disturb_each_other(needs_gl, model):
    state = mujoco.MjData(model)
    mujoco.mj_forward(model, state)
    one = open_renderer(model, choice="gl", size=32)
    before = one.render(state)
    other = open_renderer(model, choice="gl", size=48)
    assert other.render(state).shape == (48, 48, 3)
    assert (one.render(state) == before).all()
    other.close()
    assert (one.render(state) == before).all()
    one.close()


def test_a_gl_renderer_may_be_closed_twice(needs_gl, model):
    renderer = open_renderer(model, choice="gl", size=16)
    renderer.close()
    renderer.close()


def test_a_picture_is_the_callers_own(needs_gl, model):
    renderer = open_renderer(model, choice="gl", size=16)
    state = mujoco.MjData(model)
    mujoco.mj_forward(model, state)
    first = renderer.render(state)
    kept = first.copy()
    state.joint("drawer").qpos[0] = 0.12
    mujoco.mj_forward(model, state)
    second = renderer.render(state)
    renderer.close()
    assert (first == kept).all()
    assert (first != second).any()


def test_marks_that_are_not_things_are_not_drawn(needs_gl):
    marked = mujoco.MjModel.from_xml_string(scene_xml("drawer", cell_variant(0)))
    state = mujoco.MjData(marked)
    state.qpos[:8] = [*NEAR_HOME, FINGER_HIGH, FINGER_HIGH]
    mujoco.mj_forward(marked, state)
    renderer = open_renderer(marked, choice="gl", size=256)
    before = renderer.render(state)
    marked.site_rgba[:, 3] = 0.0
    assert (renderer.render(state) == before).all()
    renderer.close()


def averaged(cell_seed, task_id, *, steps=0, player):
    """The 64x64 picture that a world model sees after some steps of the expert, and the cell's palette."""
    variant = cell_variant(cell_seed)
    driver = MujocoWidowX(cell=variant, renderer="raycast")
    player(driver, task_id, seed=1, steps=steps)
    picture = small(driver.step(driver.target, driver.ground_truth().asked_opening).sample.image)
    driver.close()
    return picture, variant.palette


def coloured(picture, colour):
    """Which pixels have the hue of a colour, however it is lit; bool [64, 64]."""
    wanted = np.array(colour) / np.linalg.norm(colour)
    length = np.linalg.norm(picture, axis=-1)
    return (picture @ wanted > 0.98 * length) & (length > 20)


@pytest.mark.parametrize("cell_seed", [0, 1, 2, 3])
@pytest.mark.parametrize("task_id", ["put_eggplant_blue_sink", "put_eggplant_yellow_basket"])
def test_at_64_pixels_an_eggplant_is_large_enough_to_be_seen(task_id, cell_seed, player):
    picture, palette = averaged(cell_seed, task_id, player=player)
    rows, columns = np.nonzero(coloured(picture, palette.eggplant))
    assert len(rows) >= 30
    assert max(np.ptp(rows), np.ptp(columns)) + 1 >= 6
    assert coloured(picture, palette.sink).sum() > 150
    assert coloured(picture, palette.basket).sum() > 120


@pytest.mark.parametrize("cell_seed", [0, 1, 2, 3])
def test_at_64_pixels_an_open_drawer_looks_unlike_a_closed_one(cell_seed, player):
    closed, palette = averaged(cell_seed, "open_drawer", player=player)
    opened, _ = averaged(cell_seed, "close_drawer", player=player)
    differing = np.abs(closed - opened).max(axis=-1) > 40
    assert differing.sum() > 250  # of 4096
    assert coloured(closed, palette.drawer).sum() > 60


@pytest.mark.parametrize("task_id", ["open_drawer", "put_eggplant_blue_sink"])
@pytest.mark.parametrize("steps", [0, 12])
def test_the_gripper_is_in_the_picture_while_it_works(task_id, steps, player):
    picture, _ = averaged(0, task_id, steps=steps, player=player)
    assert (picture.max(axis=-1) < 60).sum() > 40


def test_a_held_eggplant_is_still_in_sight(player):
    picture, palette = averaged(0, "put_eggplant_blue_sink", steps=16, player=player)
    assert coloured(picture, palette.eggplant).sum() >= 15
