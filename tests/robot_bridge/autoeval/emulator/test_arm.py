"""The emulated arm does to actions what AutoEval's does, and says its state as AutoEval says it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from robot_bridge.autoeval.emulator.arm import EEF_DISPLACEMENT, MgArm, camera_picture
from robot_bridge.autoeval_mg import MgTransform, bridge_state_of_mg, compose_mg
from robot_bridge.conventions import Pose, pose_of_vector, rotation_of_euler
from robot_bridge.drivers.cell import nominal_cell
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.errors import UnknownTask
from tests.robot_bridge.toy_driver import BOX_HIGH, BOX_LOW, ToyDriver


class HeavyCell(ToyDriver):
    """A toy whose joints pull as hard as a test says."""

    pull_mA = 0.0  # noqa: N815

    def _sample(self):
        effort = np.full(7, -5000.0, dtype=np.float32)  # only the sign that counts is looked at
        effort[2] = self.pull_mA
        return replace(super()._sample(), effort_mA=effort)


@pytest.fixture
def cell() -> ToyDriver:
    return ToyDriver()


@pytest.fixture
def arm(cell: ToyDriver) -> MgArm:
    opened = MgArm(cell)
    opened.reset("open_drawer", seed=1)
    return opened


@pytest.fixture(scope="module")
def simulated() -> Iterator[MujocoWidowX]:
    cell = MujocoWidowX(cell=nominal_cell(), renderer="raycast")
    yield cell
    cell.close()


def action(*numbers: float, gripper: float = 1.0) -> np.ndarray:
    return np.array([*numbers, *[0.0] * (6 - len(numbers)), gripper])


def moved(cell: ToyDriver, arm: MgArm, *numbers: float) -> list[float]:
    before = cell.target.position
    arm.step(action(*numbers))
    return np.round(cell.target.position - before, 6).tolist()


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        ((0.015, -0.004, 0.001), [0.015, -0.004, 0.001]),
        ((0.021, -0.05, 0.5), [0.02, -0.02, 0.02]),
        ((1e30, 0.0, 0.0), [0.02, 0.0, 0.0]),
    ],
)
def test_a_step_is_at_most_two_centimetres_per_axis_whatever_was_asked(cell, arm, asked, done):
    assert moved(cell, arm, *asked) == done


def test_the_box_holds_the_gripper(cell, arm):
    for _ in range(40):
        arm.step(action(0.02, 0.02, -0.02))
    assert cell.target.position == pytest.approx([BOX_HIGH[0], BOX_HIGH[1], BOX_LOW[2]])


def test_the_box_is_about_where_the_gripper_is_and_the_move_about_where_it_was_sent(cell):
    """An arm that lags is sent past the box: measured plus move is inside, commanded plus move is not."""

    class Lagging(ToyDriver):
        def _sample(self):
            sample = super()._sample()
            proprio = sample.proprio.copy()
            proprio[0] -= 0.05
            return replace(sample, proprio=proprio)

    cell = Lagging()
    arm = MgArm(cell)
    arm.reset("open_drawer", seed=1)
    for _ in range(40):
        arm.step(action(0.02))
    assert cell.target.position[0] == pytest.approx(BOX_HIGH[0] + 0.05, abs=1e-6)


def test_angles_are_added_as_euler_angles_to_the_last_command(cell, arm):
    arm.step(action(0.0, 0.0, 0.0, 0.0, -0.3, 0.2))
    before = cell.target
    arm.step(action(0.01, 0.0, 0.0, 0.1, 0.05, -0.02))
    wanted = compose_mg(before, action(0.01, 0.0, 0.0, 0.1, 0.05, -0.02))
    np.testing.assert_allclose(cell.target.rotation, wanted.rotation, atol=1e-7)
    left_multiplied = rotation_of_euler([0.1, 0.05, -0.02]) @ before.rotation
    assert np.abs(cell.target.rotation - left_multiplied).max() > 0.01


def test_no_number_counts_for_more_than_two(cell, arm):
    other = ToyDriver()
    twin = MgArm(other)
    twin.reset("open_drawer", seed=1)
    arm.step(action(0.0, 0.0, 0.0, 2.0, 0.0, -2.0))
    twin.step(action(0.0, 0.0, 0.0, 50.0, 0.0, -7.0))
    np.testing.assert_allclose(cell.target.rotation, other.target.rotation, atol=1e-9)


def test_the_adapters_prediction_of_what_ran_is_what_runs(simulated):
    arm = MgArm(simulated)
    seen = arm.reset("open_drawer", seed=4)
    box = next(task for task in simulated.description.tasks if task.task_id == "open_drawer")
    transform = MgTransform(box_low=box.box_low, box_high=box.box_high)
    rng = np.random.default_rng(8)
    for _ in range(6):
        chosen = np.append(rng.normal(0.0, 0.03, 6), rng.random())
        before, measured = simulated.target, pose_of_vector(bridge_state_of_mg(seen.proprio))
        wanted = transform.apply(before, chosen, measured=measured)
        seen = arm.step(chosen)
        np.testing.assert_allclose(simulated.target.position, wanted.position, atol=1e-6)
        np.testing.assert_allclose(simulated.target.rotation, wanted.rotation, atol=1e-6)


def test_a_pose_out_of_reach_is_silently_no_motion(cell, arm):
    while cell.target.position[2] < 0.21:
        arm.step(action(0.0, 0.0, 0.01))
    before = cell.target.position
    seen = arm.step(action(0.0, 0.0, 0.02))
    assert cell.target.position.tolist() == before.tolist()
    assert seen.proprio[2] == pytest.approx(before[2])


@pytest.mark.parametrize(("gripper", "reads"), [(0.51, 0.357), (1.7, 0.357), (0.5, 0.0), (-3.0, 0.0)])
def test_the_gripper_opens_above_a_half_and_is_read_on_mgs_scale(arm, gripper, reads):
    assert arm.step(action(gripper=gripper)).proprio[7] == pytest.approx(reads, abs=1e-3)


def test_what_is_seen_is_what_a_policy_of_autoeval_gets(simulated):
    seen = MgArm(simulated).reset("close_drawer", seed=2)
    assert (seen.image.shape, seen.image.dtype) == ((256, 256, 3), np.uint8)
    assert (seen.proprio.shape, seen.proprio.dtype) == ((8,), np.float32)
    assert seen.proprio[6] == 0.0
    assert 0.3 < seen.proprio[7] < 0.4  # open, on a scale that is not 0 to 1
    assert abs(seen.proprio[4] - np.pi / 2) < 0.02  # pitch of a gripper that points down, not 0
    assert seen.effort_mA.shape == (7,)


@pytest.mark.parametrize(("limit", "factor"), [(None, 1.0), (6000.0, 1.0), (700.0, -0.5)])
def test_a_joint_that_pulls_too_hard_turns_the_next_action_round(limit, factor):
    cell = HeavyCell()
    cell.pull_mA = 701.0
    arm = MgArm(cell, effort_limit_mA=limit)
    arm.reset("open_drawer", seed=1)
    assert moved(cell, arm, 0.01)[0] == pytest.approx(0.01 * factor)


def test_a_joint_that_pulls_as_hard_the_other_way_is_not_seen():
    cell = HeavyCell()  # all its other joints are at -5000 mA
    arm = MgArm(cell, effort_limit_mA=700.0)
    arm.reset("open_drawer", seed=1)
    assert moved(cell, arm, 0.01)[0] == pytest.approx(0.01)


def test_an_unknown_task_is_refused(cell):
    with pytest.raises(UnknownTask, match="fold_cloth"):
        MgArm(cell).reset("fold_cloth", seed=0)


def test_a_retreat_lets_go_and_goes_back_to_the_start(cell, arm):
    home = cell.target
    for _ in range(4):
        arm.step(action(0.02, 0.01, 0.005, gripper=0.0))
    moves = cell.moves
    arm.retreat()
    np.testing.assert_allclose(cell.target.position, home.position, atol=1e-6)
    np.testing.assert_allclose(cell.target.rotation, home.rotation, atol=1e-6)
    assert cell.moves > moves + 0.08 / EEF_DISPLACEMENT - 1


def test_a_retreat_from_where_the_arm_gets_stuck_ends_all_the_same(cell, arm):
    class Stuck(ToyDriver):
        def step(self, target: Pose, gripper: float):
            return super().step(self.target, gripper)

    stuck = Stuck()
    arm = MgArm(stuck)
    arm.reset("open_drawer", seed=1)
    stuck._target = Pose(stuck.target.position + 0.05, stuck.target.rotation)
    arm.retreat()
    assert stuck.moves < 50


def test_closing_an_arm_closes_its_cell(cell, arm):
    arm.close()
    assert cell.closed == 1


def test_a_picture_keeps_the_order_of_its_colours_and_loses_a_little():
    image = np.zeros((256, 256, 3), dtype=np.uint8)
    image[:, :128] = (220, 40, 30)
    image[:, 128:] = (20, 60, 200)
    picture = camera_picture(image)
    assert np.abs(picture.astype(int) - image)[:, 8:120].max() < 6
    assert np.abs(picture.astype(int) - image)[:, 136:248].max() < 6
    assert (picture != image).any()  # it went through a JPEG
    assert picture.flags["C_CONTIGUOUS"]


def test_the_jpeg_on_the_way_has_red_and_blue_exchanged():
    """Half the resolution of colour is lost, and JPEG weighs red and blue unlike: the exchange is seen."""
    rng = np.random.default_rng(0)
    image = np.repeat(rng.integers(0, 256, (256, 256, 1), dtype=np.uint8), 3, axis=2)
    image[..., 0] = 255 - image[..., 0]
    straight = camera_picture(np.ascontiguousarray(image[..., ::-1]))[..., ::-1]
    assert (camera_picture(image) != straight).any()


@pytest.mark.parametrize("shape", [(480, 640), (32, 32), (256, 320)])
def test_a_picture_of_another_size_is_squashed_not_cropped(shape):
    image = np.zeros((*shape, 3), dtype=np.uint8)
    image[: shape[0] // 2, : shape[1] // 2] = 255
    picture = camera_picture(image)
    assert picture.shape == (256, 256, 3)
    assert picture[64, 64].min() > 240
    assert picture[64, 200].max() < 15 and picture[200, 64].max() < 15
