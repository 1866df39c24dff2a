"""How well can anybody who saw the first picture know how an episode ends, if its actions are given?

    python -m benchmarks.outcome_bound --cell-seed 7 --episodes 40

The base policy acts greedily at the two eggplant tasks. Then the eggplant is put down a little elsewhere (a
pixel of the nano picture is about 7 mm) and turned a little, the same actions are executed, and the ends are
compared with the real one: by one such replay, and by the majority of several. What a world model of perfect
physics could reach that sees the eggplant to so many millimetres lies between the two.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray

from daemon.learning.devices import choose_precision
from daemon.learning.policy.policy import Policy
from daemon.phases.checkpoints import ASSETS
from daemon.pretrain.cell_episodes import EpisodePlan, policy_actor
from daemon.pretrain.recipe import EGGPLANT_TASKS
from robot_bridge.drivers.cell import cell_variant
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.drivers.tasks import Task, task_of
from robot_bridge.safety import SafetyPipeline

JITTERS_MM = (0.0, 0.35, 0.7, 1.5, 3.0)  # standard deviation of each coordinate
TURN_PER_MM = np.deg2rad(2.0)  # the ends of the eggplant then move by about as much as its middle
EGGPLANT_X, EGGPLANT_Q = 8, 11  # where its place and its orientation begin among the joint positions


class BlindCell(MujocoWidowX):
    """The cell without pictures, whose eggplant can be moved before an episode begins."""

    def _renderer(self) -> NoPictures:  # type: ignore[override]
        return NoPictures()

    def move_eggplant(self, by_mm: NDArray[np.float64], turn: float) -> None:
        state = self._state
        state.qpos[EGGPLANT_X : EGGPLANT_X + 2] += by_mm / 1000
        turned, around = np.zeros(4), np.array([np.cos(turn / 2), 0.0, 0.0, np.sin(turn / 2)])
        mujoco.mju_mulQuat(turned, around, state.qpos[EGGPLANT_Q : EGGPLANT_Q + 4].copy())
        state.qpos[EGGPLANT_Q : EGGPLANT_Q + 4] = turned
        mujoco.mj_forward(self._model, state)


class NoPictures:
    """Stands for a renderer."""

    name = "none"

    def render(self, _: mujoco.MjData) -> NDArray[np.uint8]:
        return np.zeros((256, 256, 3), dtype=np.uint8)

    def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the policy did, and how it ended."""

    seed: int
    actions: list[NDArray[np.float32]]
    success: bool


def recorded(driver: MujocoWidowX, policy: Policy, task: Task, *, seed: int, steps: int) -> Recorded:
    plan = EpisodePlan(task_id=task.task_id, cell_seed=0, seed=seed)
    actor = policy_actor(policy, instruction=task.instruction, temperature=0.0, seed=plan.seed)
    pipeline = SafetyPipeline.of_station(driver, task.task_id)
    first = driver.reset(task.task_id, seed=seed)
    pipeline.begin(first)
    image, actions = first.image, []
    for step in range(steps):
        actions.append(actor(driver, image, step))
        _, outcome = pipeline.drive(driver, actions[-1])
        image = outcome.sample.image
    return Recorded(seed=seed, actions=actions, success=driver.success())


def replayed(driver: BlindCell, task: Task, episode: Recorded, *, moved: NDArray[np.float64]) -> bool:
    """Whether it succeeds when the eggplant lies elsewhere by moved [x mm, y mm, turn in radians]."""
    pipeline = SafetyPipeline.of_station(driver, task.task_id)
    pipeline.begin(driver.reset(task.task_id, seed=episode.seed))
    driver.move_eggplant(moved[:2], float(moved[2]))
    for action in episode.actions:
        pipeline.drive(driver, action)
    return driver.success()


def told(task: Task, episodes: Sequence[Recorded], driver: BlindCell, *, replays: int) -> None:
    labels = np.array([episode.success for episode in episodes])
    print(f"{task.instruction}: real {labels.sum()}/{len(labels)}")
    rng = np.random.default_rng(0)
    for jitter in JITTERS_MM:
        spread = np.array([jitter, jitter, jitter * TURN_PER_MM])
        count = replays if jitter else 1
        ends = np.array(
            [
                [replayed(driver, task, episode, moved=rng.normal(size=3) * spread) for _ in range(count)]
                for episode in episodes
            ]
        )  # [episodes, replays]
        rates = ends.mean(1)
        one, most = np.mean(ends == labels[:, None]), np.mean((rates > 0.5) == labels)
        optimism = rates.mean() - labels.mean()
        print(
            f"  {jitter:4.2f} mm: one replay agrees {one:.3f}, the majority {most:.3f}, "
            f"optimism {optimism:+.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell-seed", type=int, default=7)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--replays", type=int, default=8)
    parser.add_argument("--steps", type=int, default=32)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    policy = Policy.load(ASSETS / "nano" / "policy.safetensors", precision=choose_precision())
    cell = cell_variant(asked.cell_seed)
    seeing, blind = MujocoWidowX(cell=cell), BlindCell(cell=cell)
    for task in map(task_of, EGGPLANT_TASKS):
        seeds = range(5000, 5000 + asked.episodes)
        episodes = [recorded(seeing, policy, task, seed=seed, steps=asked.steps) for seed in seeds]
        told(task, episodes, blind, replays=asked.replays)
    seeing.close()


if __name__ == "__main__":
    main()
