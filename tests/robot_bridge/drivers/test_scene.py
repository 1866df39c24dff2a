from __future__ import annotations

import mujoco
import numpy as np
import pytest

from robot_bridge.drivers import kinematics, scene
from robot_bridge.drivers.cell import CellVariant, cell_variant, nominal_cell
from robot_bridge.drivers.scene import camera_axes, scene_xml

SCENES = ["drawer", "trays"]


def model_of(name, variant=None):
    return mujoco.MjModel.from_xml_string(scene_xml(name, variant or nominal_cell()))


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("seed", range(6))
def test_every_cell_compiles_without_any_file_beside_it(name, seed):
    model = model_of(name, cell_variant(seed))
    assert (model.nmesh, model.ntex, model.nmat, model.nhfield) == (0, 0, 0, 0)


@pytest.mark.parametrize("name", SCENES)
def test_the_arm_has_the_joints_of_a_widowx_in_this_order(name):
    model = model_of(name)
    names = [model.joint(index).name for index in range(8)]
    assert names == [*kinematics.JOINT_NAMES, "left_finger", "right_finger"]
    assert model.jnt_range[:6, 0] == pytest.approx(kinematics.JOINT_LOW)
    assert model.jnt_range[:6, 1] == pytest.approx(kinematics.JOINT_HIGH)
    assert [model.actuator(index).name for index in range(8)] == names


@pytest.mark.parametrize("name", SCENES)
def test_only_gripper_and_things_touch_each_other(name):
    model = model_of(name)
    touching = {model.geom(index).name for index in range(model.ngeom) if model.geom_contype[index]}
    assert {"palm", "left_pad", "right_pad", "table"} <= touching
    assert "" not in touching, "the nameless shapes are the arm's looks"


def test_the_eggplant_weighs_what_a_toy_eggplant_weighs():
    assert 0.020 < model_of("trays").body("eggplant").mass[0] < 0.040


def test_the_drawer_slides_towards_the_robots_right_and_no_further_than_its_travel():
    model = model_of("drawer")
    state = mujoco.MjData(model)
    places = []
    for slide in (0.0, 0.1):
        state.joint("drawer").qpos[0] = slide
        mujoco.mj_kinematics(model, state)
        places.append(state.geom("handle").xpos.copy())
    assert places[1] - places[0] == pytest.approx([0.0, -0.1, 0.0], abs=1e-9)
    assert model.joint("drawer").range == pytest.approx([0.0, 0.14])


def test_fingers_open_along_y_and_mirror_each_other_when_the_gripper_points_down():
    model = model_of("trays")
    state = mujoco.MjData(model)
    state.qpos[4] = np.pi / 2
    for finger in (kinematics.FINGER_LOW, kinematics.FINGER_HIGH):
        state.qpos[6:8] = finger
        mujoco.mj_kinematics(model, state)
        left, right = state.geom("left_pad").xpos, state.geom("right_pad").xpos
        gap = left[1] - right[1] - 2 * scene.PAD_HALF[1]
        assert gap == pytest.approx(2 * (finger - scene.PAD_INNER), abs=1e-9)
        assert left[[0, 2]] == pytest.approx(right[[0, 2]], abs=1e-9)


def test_things_have_the_colours_of_the_cell():
    variant = cell_variant(4)
    for name, thing, colour in (
        ("trays", "eggplant", variant.palette.eggplant),
        ("trays", "sink_floor", variant.palette.sink),
        ("trays", "basket_far", variant.palette.basket),
        ("drawer", "drawer_front", variant.palette.drawer),
        ("drawer", "cabinet_top", variant.palette.cabinet),
        ("drawer", "table", variant.palette.table),
        ("drawer", "left_pad", variant.palette.arm),
    ):
        assert model_of(name, variant).geom(thing).rgba[:3] == pytest.approx(colour, abs=1e-5)


def test_light_is_one_lamp_and_one_even_glow_without_shadow_or_gloss():
    variant = CellVariant(ambient=0.4, diffuse=0.6)
    model = model_of("drawer", variant)
    assert model.nlight == 1
    assert not model.light_castshadow.any()
    assert model.light_diffuse[0] == pytest.approx([0.6] * 3)
    assert model.light_specular[0] == pytest.approx([0.0] * 3)
    assert model.vis.headlight.ambient == pytest.approx([0.4] * 3)
    assert model.vis.headlight.diffuse == pytest.approx([0.0] * 3)
    assert (model.vis.quality.offsamples, model.vis.quality.shadowsize) == (0, 0)


def test_friction_reaches_fingertips_drawer_and_eggplant():
    slick, rough = CellVariant(friction=0.5), CellVariant(friction=2.0)
    for name, read in (
        ("trays", lambda model: model.geom("left_pad").friction[0]),
        ("trays", lambda model: model.geom("eggplant").friction[0]),
        ("drawer", lambda model: model.dof_frictionloss[model.joint("drawer").dofadr[0]]),
        ("drawer", lambda model: model.dof_damping[model.joint("drawer").dofadr[0]]),
    ):
        assert read(model_of(name, rough)) == pytest.approx(4 * read(model_of(name, slick)))


def test_the_nominal_camera_is_the_camera_of_bridge():
    model = model_of("drawer")
    state = mujoco.MjData(model)
    mujoco.mj_forward(model, state)
    assert state.camera("primary").xpos == pytest.approx([0.0, -0.16, 0.336])
    axes = state.camera("primary").xmat.reshape(3, 3)
    assert axes[:, 0] == pytest.approx([0.44721, -0.89443, 0.0], abs=1e-4)
    assert axes[:, 1] == pytest.approx([0.59629, 0.29814, 0.74536], abs=1e-4)
    width, height = model.cam_sensorsize[0]
    focal = model.cam_intrinsic[0][:2]
    assert (focal / [width, height]) == pytest.approx([623.588 / 640, 623.588 / 480], rel=1e-5)


def test_a_shifted_camera_stands_that_much_elsewhere():
    model = model_of("drawer", CellVariant(camera_shift=(0.01, -0.02, 0.03)))
    assert model.cam_pos[0] == pytest.approx([0.01, -0.18, 0.366])


@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.02, 0.0, 0.0), (0.0, -0.02, 0.0), (0.01, 0.02, -0.02)])
def test_a_turned_camera_keeps_square_axes_and_turns_by_that_angle(turn):
    right, up = (np.array(axis) for axis in camera_axes(turn))
    assert np.linalg.norm(right) == pytest.approx(1.0)
    assert np.linalg.norm(up) == pytest.approx(1.0)
    assert right @ up == pytest.approx(0.0, abs=1e-9)
    axes = np.stack([right, up, np.cross(right, up)], axis=1)
    still_right, still_up = (np.array(axis) for axis in camera_axes((0.0, 0.0, 0.0)))
    still = np.stack([still_right, still_up, np.cross(still_right, still_up)], axis=1)
    angle = np.arccos(np.clip((np.trace(axes @ still.T) - 1) / 2, -1.0, 1.0))
    assert angle == pytest.approx(np.linalg.norm(turn), abs=1e-3)
