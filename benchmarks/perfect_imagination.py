"""What the policy's update would teach if imagination were perfect: GRPO in the simulated cell itself.

    python -m benchmarks.perfect_imagination --cell-seed 107 [--policy FILE] [--rounds 2] [--save FILE]

The same update with an iteration's defaults, but rollouts happen in the cell, and it says how they ended.
A round is one update phase; before and after each the policy acts greedily in scenes that no rollout began
in, as in an iteration's collecting, and its successes are what the next round imitates. What it reaches is a
bound for what imagination can teach with so many updates; the loop's own figure beside it says how much is
lost to imagination.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

import daemon
from daemon.learning.batch import Clip
from daemon.learning.devices import choose_precision
from daemon.learning.policy.policy import Policy
from daemon.learning.policy_update import Arena, update_policy
from daemon.phases.update_policy import config_of
from daemon.pretrain.cell_episodes import EpisodePlan
from daemon.pretrain.recording import Acting, recorded
from daemon.progress_bar import Bars
from daemon.simulated_env import Scene, SimulatedEnv
from daemon.spec import IterationSpec
from daemon.statistics import wilson_interval
from robot_bridge.drivers.tasks import TASKS

BASE = Path(daemon.__file__).parent / "assets" / "nano" / "policy.safetensors"
MEASURED = 1_000_000  # seeds of the scenes that are measured in begin here, those of rollouts at 0


def measured(name: str, policy: Policy, *, cell_seed: int, episodes: int) -> list[Clip]:
    """Act greedily in fresh scenes, print success by task and in all; the episodes that succeeded."""
    plans = [
        EpisodePlan(task_id=task, cell_seed=cell_seed, seed=MEASURED + number)
        for task in TASKS
        for number in range(episodes)
    ]
    with tempfile.TemporaryDirectory(prefix="gymnastd-") as folder:
        file = Path(folder) / "policy.safetensors"
        policy.save(file, {})
        acting = Acting(file, temperature=0.0)
        clips = recorded(plans, Path(folder), name="greedy", bars=Bars(shown=False), acting=acting)
    won = [clip for clip in clips if clip.success]
    counts = Counter(clip.instruction for clip in won)
    interval = wilson_interval(len(won), len(clips))
    by_task = ", ".join(f"{asked}: {k}/{episodes}" for asked, k in sorted(counts.items()))
    print(f"{name}: {len(won)}/{len(clips)} [{interval.low:.2f}, {interval.high:.2f}]  {by_task}", flush=True)
    return won


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    spec = IterationSpec()
    parser.add_argument("--policy", type=Path, default=BASE)
    parser.add_argument("--cell-seed", type=int, default=107)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--updates", type=int, default=spec.policy.updates, help="of a round")
    parser.add_argument("--groups", type=int, default=spec.policy.groups)
    parser.add_argument("--scenes", type=int, default=48, help="of each task that rollouts begin in")
    parser.add_argument("--episodes", type=int, default=64, help="of each task that are measured")
    parser.add_argument("--save", type=Path, help="where the policy is written after each round")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    policy = Policy.load(arguments.policy, precision=choose_precision())
    in_fresh_scenes = partial(measured, cell_seed=arguments.cell_seed, episodes=arguments.episodes)
    proven = in_fresh_scenes("before", policy)
    scenes = [Scene(task_id=task, seed=seed) for task in TASKS for seed in range(arguments.scenes)]

    def told(update: int, metrics: dict[str, float]) -> None:
        print(f"  update {update}: {metrics['imagined_success']:.2f} of rollouts", flush=True)

    usual = config_of(spec, policy.chunk, steps=spec.steps)
    asked = replace(usual, updates=arguments.updates, groups=arguments.groups)
    with closing(SimulatedEnv(arguments.cell_seed, scenes)) as env:
        for number in range(arguments.rounds):
            arena = Arena(env=env, judge=env, starts=env.starts, proven=proven)
            update_policy(policy, arena, config=replace(asked, seed=number), on_update=told)
            proven = in_fresh_scenes(f"after round {number + 1}", policy)
            if arguments.save:
                policy.save(arguments.save, {})


if __name__ == "__main__":
    main()
