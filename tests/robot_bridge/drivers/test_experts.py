from __future__ import annotations

import inspect

import numpy as np
import pytest

from robot_bridge.drivers import experts
from robot_bridge.drivers.cell import cell_variant, nominal_cell
from robot_bridge.drivers.experts import scripted_action
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.drivers.tasks import TASKS
from robot_bridge.safety import Limits, SafetyPipeline
from robot_bridge.watches import TrackingWatch

NEVER = np.random.default_rng(0)


def wild(seed):
    """Actions of somebody who has no idea."""
    rng = np.random.default_rng(seed)
    return lambda driver, index: np.array(
        [*rng.uniform(-0.04, 0.04, 3), 0, 0, 0, rng.integers(2)], np.float32
    )


def noisy(seed, noise):
    rng = np.random.default_rng(seed)
    return lambda driver, index: scripted_action(driver, rng, noise=noise)


def test_experts_accomplish_their_tasks_and_leave_them_accomplished(driver, task_id, player):
    for seed in range(6):
        played = player(driver, task_id, seed=seed)
        assert played.success[29], f"seed {seed}: not done by step 30"
        assert all(played.success[29:]), f"seed {seed}: undone again"


def test_once_done_the_expert_stays_put(driver, task_id, player):
    played = player(driver, task_id, seed=1)
    for action in played.actions[-6:]:
        assert not action[:6].any()
    assert np.ptp([state.gripper for state in played.states[-5:]], axis=0).max() < 0.002


def test_expert_actions_stay_inside_what_a_policy_and_a_station_allow(driver, task_id, player):
    for seed in range(3):
        played = player(driver, task_id, seed=seed)
        actions = np.stack(played.actions)
        assert actions.dtype == np.float32
        assert np.abs(actions[:, :3]).max() <= 0.04
        assert not actions[:, 3:6].any(), "the gripper never turns"
        assert set(actions[:, 6]) <= {0.0, 1.0}
        assert all(played.ik_ok)
        for target in played.targets:
            assert (target.position >= np.array(TASKS[task_id].box_low) - 1e-9).all()
            assert (target.position <= np.array(TASKS[task_id].box_high) + 1e-9).all()


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_moves_are_whole_multiples_of_the_grid(driver, task_id, player, noise):
    actions = np.stack(player(driver, task_id, seed=2, choose=noisy(0, noise)).actions)[:, :3]
    steps = actions / experts.GRID
    assert steps == pytest.approx(np.round(steps), abs=1e-4)
    assert 2 * round(0.04 / experts.GRID) + 1 == 21


def test_the_expert_decides_from_the_state_alone(driver, task_id, player):
    player(driver, task_id, seed=3, steps=9)
    first = scripted_action(driver, NEVER)
    assert (scripted_action(driver, NEVER) == first).all()
    fresh = MujocoWidowX(cell=nominal_cell(), renderer="raycast", image_size=8)
    player(fresh, task_id, seed=3, steps=9)
    assert (scripted_action(fresh, np.random.default_rng(77)) == first).all()


def test_without_noise_no_randomness_is_drawn(driver, task_id):
    driver.reset(task_id, seed=1)
    rng = np.random.default_rng(5)
    scripted_action(driver, rng)
    assert rng.random() == np.random.default_rng(5).random()


def test_noise_follows_its_generator(driver, task_id, player):
    runs = [np.stack(player(driver, task_id, seed=1, choose=noisy(s, 1.0)).actions) for s in (4, 4, 5)]
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_expert_takes_over_after_anything(driver, task_id, player, continuer, seed):
    player(driver, task_id, seed=seed, steps=15, choose=wild(seed))
    assert continuer(driver, steps=70).success[-1]


def test_the_gripper_opens_before_it_leaves(driver, task_id, player):
    played = player(driver, task_id, seed=4)
    shut_before = [False, *(action[6] < 0.5 for action in played.actions)]
    releases = [
        action for action, shut in zip(played.actions, shut_before, strict=False) if shut and action[6] > 0.5
    ]
    assert len(releases) == (0 if task_id == "close_drawer" else 1)
    assert not any(action[:3].any() for action in releases)


def test_a_dropped_eggplant_is_fetched_again(driver, player, continuer):
    player(driver, "put_eggplant_blue_sink", seed=2, steps=17)
    assert driver.ground_truth().fingers_touching == 2
    for _ in range(2):
        driver.step(driver.target, 1.0)
    assert driver.ground_truth().fingers_touching < 2
    assert continuer(driver, steps=45).success[-1]


def test_every_task_has_an_expert():
    assert set(experts._DECISIONS) == set(TASKS)
    assert list(inspect.signature(scripted_action).parameters) == ["driver", "rng", "noise"]


def station_limits(driver):
    """Limits as a station takes them from the cell's own description."""
    robot, task = driver.description, driver.task
    return Limits(
        box_low=task.box_low,
        box_high=task.box_high,
        step_xyz_max=robot.step_xyz_max,
        step_rot_max=robot.step_rot_max,
        ee_speed_max=robot.ee_speed_max,
        joint_speed_max=robot.joint_speed_max,
        effort_max_mA=robot.effort_max_mA,
    )


@pytest.mark.parametrize("cell_seed", [0, 7])
def test_the_stations_limits_change_nothing_in_an_experts_work(task_id, cell_seed):
    cell = cell_variant(cell_seed) if cell_seed else nominal_cell()
    driver = MujocoWidowX(cell=cell, renderer="raycast", image_size=8)
    for seed in range(2):
        first = driver.reset(task_id, seed=seed)
        safe = SafetyPipeline(station_limits(driver), arm=driver.arm)
        tracking = TrackingWatch(driver.description.tracking_max_m)
        safe.begin(first)
        for _ in range(36):
            asked = scripted_action(driver, NEVER)
            command = safe.apply(driver.target, asked)
            outcome = driver.step(command.target, command.gripper)
            assert safe.took(outcome) == 0
            np.testing.assert_array_equal(command.executed, asked)
            tracking.check(outcome.sample, outcome.target)
        assert driver.success()
        assert not any(safe.counts.values())


@pytest.mark.slow
def test_experts_succeed_in_at_least_95_of_100_nominal_episodes(driver, task_id, player):
    wins = [player(driver, task_id, seed=seed).success[-1] for seed in range(40)]
    assert np.mean(wins) >= 0.95


@pytest.mark.slow
def test_experts_succeed_in_at_least_85_of_100_episodes_of_other_cells(task_id, player):
    wins = []
    for cell_seed in range(1, 16):
        driver = MujocoWidowX(cell=cell_variant(cell_seed), renderer="raycast", image_size=8)
        wins += [player(driver, task_id, seed=seed).success[-1] for seed in range(2)]
    assert np.mean(wins) >= 0.85


@pytest.mark.slow
def test_noise_makes_a_mix_of_successes_and_failures(driver, task_id, player):
    rates = {}
    for noise in (0.5, 1.0, 2.5):
        wins = [
            player(driver, task_id, seed=seed, choose=noisy(seed, noise)).success[-1] for seed in range(16)
        ]
        rates[noise] = np.mean(wins)
    assert rates[0.5] >= 0.5
    assert 0.1 <= rates[1.0] <= 0.9
    assert rates[2.5] < rates[0.5]
