"""The emulator as it ships: over the simulated cell, on a port of its own."""

from __future__ import annotations

import json
import socket
import threading

import numpy as np
import pytest

from robot_bridge.autoeval.emulator.policy_line import read_answer
from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.autoeval.emulator.serve import running_emulator
from robot_bridge.autoeval.wire import read_act
from robot_bridge.drivers.cell import nominal_cell
from robot_bridge.drivers.experts import scripted_action
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from tests.robot_bridge.autoeval.emulator.conftest import Emulated
from tests.robot_bridge.autoeval.emulator.records import the_run, trajectory
from tests.robot_bridge.autoeval.emulator.toy_policy import always

MOVES = [0.01, -0.005, -0.01, 0.0, 0.0, 0.1, 0.0]


def run_one(root, policy, *, cell_seed=0, **job):
    with running_emulator(root, quirks=Quirks(renderer="raycast"), cell_seed=cell_seed) as url:
        emulated = Emulated(url, policy, root)
        row = emulated.ended(emulated.submit(**job))
        emulated.session.close()
    return row


@pytest.mark.parametrize(
    ("robot", "task", "instruction"),
    [
        ("widowx_drawer", "close_drawer", "close the drawer"),
        ("widowx_sink", "put_eggplant_yellow_basket", "put the eggplant in the yellow basket"),
    ],
)
def test_each_robot_is_a_simulated_cell_with_autoevals_pictures(tmp_path, policy, robot, task, instruction):
    policy.act = always(MOVES)
    row = run_one(tmp_path, policy, robot=robot, task=task, max_steps=3)
    assert (row["status"], row["success_rate"]) == ("completed", 0.0)
    requests = [read_act(call.body) for call in policy.acts()]
    assert {request.instruction for request in requests} == {instruction}
    pictures = [request.image for request in requests]
    assert all(picture.std() > 20 for picture in pictures)  # a scene, not a blank
    assert (pictures[0] != pictures[2]).any()
    record = trajectory(the_run(tmp_path) / "traj_0.pkl")
    assert len(record["action"]) == 3
    travelled = record["proprio"][-1][:3] - requests[0].proprio[:3]
    assert travelled == pytest.approx([0.03, -0.015, -0.03], abs=0.006)
    assert record["proprio"][-1][7] < 0.2 < requests[0].proprio[7]  # the gripper closed


def test_another_cell_looks_another_way(tmp_path, policy):
    for seed in (0, 5):
        run_one(tmp_path / str(seed), policy, cell_seed=seed, id="same", max_steps=1)
    one, other = (read_answer(call.tree["image"]).astype(int) for call in policy.acts())
    assert np.abs(one - other).mean() > 2.0


def test_it_listens_on_loopback_only(tmp_path):
    with running_emulator(tmp_path, quirks=Quirks()) as url:
        assert url.startswith("http://127.0.0.1:")


def test_a_port_can_be_asked_for(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running_emulator(tmp_path, quirks=Quirks(), port=port) as url:
        assert url == f"http://127.0.0.1:{port}"


def test_an_emulator_that_ends_leaves_no_thread(tmp_path, policy):
    before = set(threading.enumerate())
    run_one(tmp_path, policy, max_steps=1)
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {name for name in left if name.startswith("autoeval")}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["open_drawer", "close_drawer", "put_eggplant_blue_sink"])
def test_whoever_can_do_a_task_in_the_cell_can_do_it_behind_autoeval(tmp_path, policy, task):
    """Through two-centimetre steps, Euler angles at their singularity and the box; drawer and trays."""
    cell = MujocoWidowX(cell=nominal_cell(), renderer="raycast", image_size=16)
    rng = np.random.default_rng(0)
    policy.act = lambda _: (200, json.dumps(scripted_action(cell, rng).tolist()).encode())
    robot = "widowx_drawer" if "drawer" in task else "widowx_sink"
    with running_emulator(tmp_path, quirks=Quirks(), build=lambda: cell) as url:
        emulated = Emulated(url, policy, tmp_path)
        row = emulated.ended(emulated.submit(robot=robot, task=task, num_episodes=2, max_steps=80, id="5"))
        emulated.session.close()
    assert row["success_rate"] >= 0.5
