"""What one GRPO iteration at nano scale costs, and where its time goes.

    python -m benchmarks.grpo_iteration [--starts 12] [--rollouts 8] [--steps 32]

The committed base imagines, judges and learns; the starts are pictures of the simulated cell. The baseline is
TorchRL's published toy: 64 to 87 s for an iteration of 44 groups of 4 (`--starts 44 --rollouts 4` is the same
number of rollouts here). The ratio compares seconds per rollout with the lower of the two.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import daemon
from daemon.learning.batch import resize_frames
from daemon.learning.devices import choose_precision
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.learner import PolicyUpdateConfig
from daemon.learning.policy.policy import Policy
from daemon.learning.policy_update import Arena, update_policy
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.reward.judge import Verdicts
from daemon.learning.rollout import Starts
from daemon.learning.world_model.model import WorldModel
from robot_bridge.drivers.cell import cell_variant
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.drivers.tasks import TASKS, task_of

ASSETS = Path(daemon.__file__).parent / "assets" / "nano"
PEER_S, PEER_ROLLOUTS = 64.0, 176  # TorchRL's toy: the faster published iteration, 44 groups of 4
CELL = 3


class Clock:
    """Adds up the seconds of whatever is called through it."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - began

        return wrapped


class TimedEnv:
    """An imagined environment whose time is told."""

    def __init__(self, env: ImaginedEnv, clock: Clock) -> None:
        self.reset = clock.timed("world model", env.reset)
        self.step = clock.timed("world model", env.step)
        self.recent_frames = clock.timed("world model", env.recent_frames)


class TimedJudge:
    """A judge whose time is told; what it says is replaced so that every group teaches.

    A group without spread would cost no update, and flatter the figures.
    """

    def __init__(self, judge: ClassifierJudge, clock: Clock, *, group_size: int) -> None:
        self._judge = clock.timed("judge", judge.judge)
        self.frames = judge.frames
        self._group_size = group_size

    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        self._judge(frames, instructions)
        success = torch.arange(len(frames)) % self._group_size < self._group_size // 2
        return Verdicts(success=success, known=torch.ones_like(success), probability=success.float())


def pictures(count: int) -> Starts:
    """First observations of the simulated cell, its tasks in turn."""
    driver = MujocoWidowX(cell=cell_variant(CELL))
    names = [list(TASKS)[place % len(TASKS)] for place in range(count)]
    images = [resize_frames(driver.reset(name, seed=place).image[None]) for place, name in enumerate(names)]
    driver.close()
    return Starts(images=torch.cat(images), instructions=tuple(task_of(name).instruction for name in names))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--starts", type=int, default=12)
    options.add_argument("--rollouts", type=int, default=8)
    options.add_argument("--steps", type=int, default=32)
    options.add_argument("--iterations", type=int, default=3)
    asked = options.parse_args()
    clock, precision = Clock(), choose_precision()
    policy = Policy.load(ASSETS / "policy.safetensors", precision=precision)
    judge = ClassifierJudge.load(ASSETS / "judge.safetensors", precision=precision)
    env = ImaginedEnv(WorldModel.load(ASSETS / "world_model.safetensors"), seed=0)
    chunks = asked.steps // policy.chunk
    config = PolicyUpdateConfig(
        updates=asked.iterations + 1, groups=asked.starts, group_size=asked.rollouts, chunks=chunks, lr=1e-6
    )
    policy.act = clock.timed("policy", policy.act)  # type: ignore[method-assign]
    ends: list[tuple[float, dict[str, float]]] = []
    update_policy(
        policy,
        Arena(
            env=TimedEnv(env, clock),  # type: ignore[arg-type]
            judge=TimedJudge(judge, clock, group_size=asked.rollouts),
            starts=pictures(asked.starts),
        ),
        config=config,
        on_update=lambda *_: ends.append((time.perf_counter(), dict(clock.spent))),
    )
    (began, before), (ended, after) = ends[0], ends[-1]  # the first iteration warms up
    seconds = (ended - began) / asked.iterations
    rollouts = asked.starts * asked.rollouts
    threads = f"{torch.get_num_threads()} thread(s), {precision}"
    print(f"{asked.starts} starts x {asked.rollouts} rollouts x {chunks} chunks of {policy.chunk}, {threads}")
    print(f"{seconds:.2f} s an iteration, {rollouts / seconds:.1f} rollouts/s, "
          f"{rollouts * chunks / seconds:.0f} decisions/s")  # fmt: skip
    shares = {name: (after[name] - before[name]) / asked.iterations / seconds for name in after}
    shares["update"] = 1 - sum(shares.values())
    print(", ".join(f"{name} {100 * share:.0f} %" for name, share in sorted(shares.items())))
    ratio = (PEER_S / PEER_ROLLOUTS) / (seconds / rollouts)
    print(f"{ratio:.1f} times as many rollouts per second as TorchRL's published toy ({PEER_S:g} s for "
          f"{PEER_ROLLOUTS})")  # fmt: skip


if __name__ == "__main__":
    main()
