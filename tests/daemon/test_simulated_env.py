"""The simulated cell as an environment: its scenes, its physics, its verdict."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from daemon.learning.batch import resize_frames
from daemon.learning.errors import BadTensor
from daemon.pretrain.cell_episodes import EpisodePlan, expert, record
from daemon.simulated_env import Scene, SimulatedEnv
from robot_bridge.drivers.cell import cell_variant
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.episode import PolicyRef
from robot_bridge.protocol import EpisodeRequest
from robot_bridge.safety import SafetyPipeline
from robot_bridge.station.admission import limits_of

CELL = 3
SCENES = (Scene(task_id="open_drawer", seed=5), Scene(task_id="close_drawer", seed=6))


@pytest.fixture(scope="module")
def env() -> Iterator[SimulatedEnv]:
    made = SimulatedEnv(CELL, SCENES)
    yield made
    made.close()


def test_it_starts_from_the_scenes_that_it_was_given(env: SimulatedEnv) -> None:
    assert env.starts.instructions == ("open the drawer", "close the drawer")
    env.reset(env.starts.images)
    assert torch.equal(env.recent_frames(1)[:, 0], env.starts.images)
    with pytest.raises(BadTensor, match=r"others at \[1\]"):
        env.reset(torch.stack([env.starts.images[0], 255 - env.starts.images[1]]))


def test_copies_of_one_scene_differ_by_what_they_do_alone(env: SimulatedEnv) -> None:
    taken = env.starts.take([0, 0, 0])
    env.reset(taken.images)
    still, lifted = [0.0] * 6 + [1.0], [0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0]
    seen = env.step(torch.tensor([still, still, lifted])[:, None].expand(3, 3, 7))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize(("scene", "noise"), [(0, 0.0), (1, 0.0)])
def test_an_episode_of_the_expert_is_the_one_that_pretraining_records(
    env: SimulatedEnv, scene: int, noise: float
) -> None:
    plan = EpisodePlan(task_id=SCENES[scene].task_id, cell_seed=CELL, seed=SCENES[scene].seed, noise=noise)
    driver = MujocoWidowX(cell=cell_variant(CELL))
    clip = record(driver, plan, expert(plan))
    driver.close()
    env.reset(env.starts.images[scene : scene + 1])
    env.step(clip.actions[None])
    assert torch.equal(env.recent_frames(len(clip.frames))[0], clip.frames)
    verdict = env.judge(env.recent_frames(1), [clip.instruction])
    assert (verdict.success.tolist(), verdict.known.tolist()) == ([clip.success], [True])
    assert clip.success, "or it tells nothing"


def test_an_arm_that_presses_is_eased_as_it_is_on_a_station(env: SimulatedEnv) -> None:
    """The effort guard turns it round there; without it every bound that is measured here was too high."""
    scene, asked = SCENES[0], np.float32([0.03, 0.03, -0.03, 0, 0, 0, 1])
    driver = MujocoWidowX(cell=cell_variant(CELL))
    request = EpisodeRequest(
        task_id=scene.task_id, seed=scene.seed, max_steps=20, policy=PolicyRef(name="test")
    )
    pipeline = SafetyPipeline(
        limits_of(driver.description, request), arm=driver.arm, control_hz=driver.description.control_hz
    )
    pipeline.begin(driver.reset(scene.task_id, seed=scene.seed))
    pictures = []
    for _ in range(20):
        command = pipeline.apply(driver.target, asked)
        outcome = driver.step(command.target, command.gripper)
        pipeline.took(outcome)
        pictures.append(resize_frames(outcome.sample.image[None])[0])
    driver.close()
    assert pipeline.counts["effort"] > 0, "or it tells nothing"
    env.reset(env.starts.images[:1])
    env.step(torch.from_numpy(asked).expand(1, 20, 7))
    assert torch.equal(env.recent_frames(20)[0], torch.stack(pictures))
    driver = MujocoWidowX(cell=cell_variant(CELL))
    plan = EpisodePlan(task_id=scene.task_id, cell_seed=CELL, seed=scene.seed)
    clip = record(driver, plan, lambda *_: asked)
    driver.close()
    assert torch.equal(clip.frames[1:21], torch.stack(pictures))
    assert clip.asked is not None
    assert not torch.allclose(clip.asked, clip.actions), "what was asked is told, what ran is another thing"


def test_who_does_nothing_does_not_succeed(env: SimulatedEnv) -> None:
    env.reset(env.starts.images)
    env.step(torch.tensor(np.float32([[0, 0, 0, 0, 0, 0, 1]])).expand(2, 5, 7))
    verdict = env.judge(env.recent_frames(1), list(env.starts.instructions))
    assert verdict.success.tolist() == [False, False]


def test_it_judges_all_copies_or_none(env: SimulatedEnv) -> None:
    env.reset(env.starts.images)
    with pytest.raises(BadTensor, match="2 films"):
        env.judge(env.recent_frames(1)[:1], ["open the drawer"])
