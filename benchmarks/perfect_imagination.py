"""What the policy's update would teach if imagination were perfect: GRPO in the simulated cell itself.

    python -m benchmarks.perfect_imagination --cell-seed 107 [--policy FILE] [--rounds 2]

The same update with an iteration's defaults, but rollouts happen in the cell, and it says how they ended.
A round is one update phase; after each the policy acts greedily in scenes that no rollout began in, as in an
iteration's collecting. What it reaches is a bound for what imagination can teach with so many updates; the
loop's own figure beside it says how much is lost to imagination.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

import daemon
from daemon.learning.devices import choose_precision
from daemon.learning.policy.policy import Policy
from daemon.learning.policy_update import Arena, update_policy
from daemon.phases.update_policy import config_of
from daemon.pretrain.cell_episodes import EpisodePlan, record_all, success_rates
from daemon.pretrain.recording import Acting
from daemon.simulated_env import Scene, SimulatedEnv
from daemon.spec import IterationSpec
from daemon.statistics import wilson_interval
from robot_bridge.drivers.tasks import TASKS

BASE = Path(daemon.__file__).parent / "assets" / "nano" / "policy.safetensors"
MEASURED = 1_000_000  # seeds of the scenes that are measured in begin here, those of rollouts at 0


def measured(policy: Policy, *, cell_seed: int, episodes: int) -> str:
    """Greedy success in fresh scenes, by task and in all."""
    plans = [
        EpisodePlan(task_id=task, cell_seed=cell_seed, seed=MEASURED + number)
        for task in TASKS
        for number in range(episodes)
    ]
    with tempfile.TemporaryDirectory(prefix="gymnastd-") as folder:
        file = Path(folder) / "policy.safetensors"
        policy.save(file, {})
        rates = success_rates(record_all(plans, Acting(file, temperature=0.0).actors()))
    won, of = (sum(counts) for counts in zip(*rates.values(), strict=True))
    interval = wilson_interval(won, of)
    by_task = ", ".join(f"{name}: {k}/{n}" for name, (k, n) in rates.items())
    return f"{won}/{of} [{interval.low:.2f}, {interval.high:.2f}]  {by_task}"


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
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    policy = Policy.load(arguments.policy, precision=choose_precision())
    print("before:", measured(policy, cell_seed=arguments.cell_seed, episodes=arguments.episodes), flush=True)
    scenes = [Scene(task_id=task, seed=seed) for task in TASKS for seed in range(arguments.scenes)]

    def told(update: int, metrics: dict[str, float]) -> None:
        print(f"  update {update}: {metrics['imagined_success']:.2f} of rollouts", flush=True)

    usual = config_of(spec, policy.chunk, steps=spec.steps)
    asked = replace(usual, updates=arguments.updates, groups=arguments.groups)
    with closing(SimulatedEnv(arguments.cell_seed, scenes)) as env:
        arena = Arena(env=env, judge=env, starts=env.starts)
        for number in range(arguments.rounds):
            update_policy(policy, arena, config=replace(asked, seed=number), on_update=told)
            found = measured(policy, cell_seed=arguments.cell_seed, episodes=arguments.episodes)
            print(f"after round {number + 1}:", found, flush=True)


if __name__ == "__main__":
    main()
