"""Would what a policy does in imagination also have worked? Its imagined actions, executed in the cell.

    python -m benchmarks.imagined_actions --cell-seed 107 --policy FILE --world-model FILE

From the first pictures of fresh scenes the policy acts three times: in the cell; in imagination, by imagined
pictures; and in the cell again with the actions that it decided on in imagination. Printed per task:
real success; imagined success of those that the judge does not decline; how many of the imagined action
sequences succeed when they are executed; and both together: false hopes are imagined successes whose actions
fail. A world model that is told real actions is told how the episode went, and looks better than that.

With --unconfined the imagined arm does all that is asked of it, also where its station would have stopped it.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import daemon
from daemon.learning.devices import choose_precision
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.policy.policy import Policy
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.rollout import RolloutPlan, Starts, rollout
from daemon.learning.trust import counted
from daemon.learning.world_model.model import WorldModel
from daemon.simulated_env import Scene, SimulatedEnv
from daemon.spec import IterationSpec
from robot_bridge.drivers.tasks import TASKS

BASE = Path(daemon.__file__).parent / "assets" / "nano"
SCENES = 1_000_000  # seeds of the scenes begin here, as in perfect_imagination


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How boldly the policy acts, and whether its imagined arm is stopped where its station would stop it."""

    temperature: float
    confined: bool


class Recorder(ImaginedEnv):
    """Imagination that remembers what was done in it."""

    def reset(self, images: Tensor, seeds: list[int] | None = None) -> None:  # type: ignore[override]
        self.chunks: list[Tensor] = []
        super().reset(images, seeds)

    def step(self, actions: Tensor) -> Tensor:
        self.chunks.append(actions.clone())
        return super().step(actions)


def executed(cell: SimulatedEnv, starts: Starts, chunks: list[Tensor]) -> list[bool]:
    """Which of these action sequences succeed in the cell."""
    cell.reset(starts.images)
    for chunk in chunks:
        cell.step(chunk)
    return [bool(good) for good in cell.judge(starts.images[:, None], starts.instructions).success]


def told(
    task: str, models: tuple[Policy, WorldModel, ClassifierJudge], cell: SimulatedEnv, *, manner: Manner
) -> None:
    """Act three times and print a line."""
    policy, world_model, judge = models
    starts = cell.starts if manner.confined else replace(cell.starts, confines=None)
    chunks = IterationSpec().steps // policy.chunk
    plan = RolloutPlan(chunks=chunks, temperature=manner.temperature, final_frames=judge.frames)
    chance = torch.Generator().manual_seed(0)
    ended = rollout(policy, cell, starts, plan=plan, generator=chance)
    real = int(cell.judge(ended.final_frames, starts.instructions).success.sum())
    imagination = Recorder(world_model, seed=0)
    seeds = list(range(len(starts)))
    imagined = rollout(policy, imagination, starts, plan=plan, generator=chance, seeds=seeds)
    verdicts = judge.judge(imagined.final_frames, imagined.instructions)
    worked = executed(cell, starts, imagination.chunks)
    both = counted(verdicts, worked)
    print(
        f"{task}: really {real} of {len(starts)}; imagined {both.hits + both.false_hopes} of {both.known}; "
        f"imagined actions executed {sum(worked)} of {len(starts)}; agreement {both.agreement or 0:.2f}, "
        f"false hopes {both.false_hopes}, missed {both.missed}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell-seed", type=int, default=107)
    parser.add_argument("--policy", type=Path, default=BASE / "policy.safetensors")
    parser.add_argument("--world-model", type=Path, default=BASE / "world_model.safetensors")
    parser.add_argument("--judge", type=Path, default=BASE / "judge.safetensors")
    parser.add_argument("--episodes", type=int, default=64, help="of each task")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--temperature", type=float, default=0.0, help="0 acts greedily")
    parser.add_argument("--unconfined", action="store_true", help="imagined arms do all that is asked")
    arguments = parser.parse_args()
    manner = Manner(temperature=arguments.temperature, confined=not arguments.unconfined)
    torch.set_num_threads(1)
    precision = choose_precision()
    policy = Policy.load(arguments.policy, precision=precision)
    judge = ClassifierJudge.load(arguments.judge, precision=precision)
    world_model = WorldModel.load(arguments.world_model)
    for task in arguments.tasks:
        scenes = [Scene(task_id=task, seed=SCENES + number) for number in range(arguments.episodes)]
        with closing(SimulatedEnv(arguments.cell_seed, scenes)) as cell:
            told(task, (policy, world_model, judge), cell, manner=manner)


if __name__ == "__main__":
    main()
