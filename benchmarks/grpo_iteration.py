"""What one GRPO iteration at nano scale costs, and where its time goes.

    python -m benchmarks.grpo_iteration [--starts 12] [--rollouts 8] [--steps 32] [--as-torchrl]

The committed base imagines, judges and learns; the starts are pictures of the simulated cell. The baseline is
TorchRL's published toy: 64 to 87 s for an iteration of 44 groups of 4 with 6 decisions each. The ratio is of
decisions per second, theirs with the lower of the two. With `--as-torchrl` an iteration is what theirs is:
as many groups, of which 10 teach (they report 28 to 34 of 38 to 44 dropped), and one pass over what is kept.
Without, every group teaches, in as many passes as our update makes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

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
from daemon.learning.world_model.engine import Engine
from daemon.learning.world_model.model import WorldModel
from robot_bridge.drivers.cell import cell_variant
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.drivers.tasks import TASKS, task_of

ASSETS = Path(daemon.__file__).parent / "assets" / "nano"
PEER_S, PEER_GROUPS, PEER_ROLLOUTS, PEER_DECISIONS = 64.0, 44, 4, 6  # TorchRL's toy, the faster iteration
PEER_KEPT, PEER_EPOCHS = 10, 1
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
    """A judge whose time is told; what it says is replaced so that the first `kept` groups teach.

    A group without spread costs no update; how many of them there are must not be left to chance.
    """

    def __init__(self, judge: ClassifierJudge, clock: Clock, *, group_size: int, kept: int) -> None:
        self._judge = clock.timed("judge", judge.judge)
        self.frames = judge.frames
        self._group_size, self._kept = group_size, kept

    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        self._judge(frames, instructions)
        place = torch.arange(len(frames))
        teaches = place // self._group_size < self._kept
        success = teaches & (place % self._group_size < self._group_size // 2)
        return Verdicts(success=success, known=torch.ones_like(success), probability=success.float())


def pictures(count: int) -> Starts:
    """First observations of the simulated cell, its tasks in turn."""
    driver = MujocoWidowX(cell=cell_variant(CELL))
    names = [list(TASKS)[place % len(TASKS)] for place in range(count)]
    images = [resize_frames(driver.reset(name, seed=place).image[None]) for place, name in enumerate(names)]
    driver.close()
    return Starts(images=torch.cat(images), instructions=tuple(task_of(name).instruction for name in names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large an iteration is."""

    starts: int
    rollouts: int  # of each start
    chunks: int  # decisions of each rollout
    kept: int  # groups that teach
    epochs: int = PolicyUpdateConfig().epochs

    @property
    def decisions(self) -> int:
        return self.starts * self.rollouts * self.chunks


AS_TORCHRL = Size(
    starts=PEER_GROUPS, rollouts=PEER_ROLLOUTS, chunks=PEER_DECISIONS, kept=PEER_KEPT, epochs=PEER_EPOCHS
)


def iterate(size: Size, policy: Policy, *, engine: Engine, iterations: int) -> tuple[float, dict[str, float]]:
    """Seconds of an iteration, and of its parts, on the average; one before them warms up."""
    clock = Clock()
    judge = ClassifierJudge.load(ASSETS / "judge.safetensors", precision=policy.precision)
    world_model = WorldModel.load(ASSETS / "world_model.safetensors")
    policy.act = clock.timed("policy", policy.act)  # type: ignore[method-assign]
    ends: list[tuple[float, dict[str, float]]] = []
    update_policy(
        policy,
        Arena(
            env=TimedEnv(ImaginedEnv(world_model, seed=0, engine=engine), clock),  # type: ignore[arg-type]
            judge=TimedJudge(judge, clock, group_size=size.rollouts, kept=size.kept),
            starts=pictures(size.starts),
        ),
        config=PolicyUpdateConfig(
            updates=iterations + 1,
            groups=size.starts,
            group_size=size.rollouts,
            chunks=size.chunks,
            epochs=size.epochs,
            lr=1e-6,
        ),
        on_update=lambda *_: ends.append((time.perf_counter(), dict(clock.spent))),
    )
    (began, before), (ended, after) = ends[0], ends[-1]
    seconds = (ended - began) / iterations
    parts = {name: (after[name] - before[name]) / iterations for name in after}
    return seconds, {**parts, "update": seconds - sum(parts.values())}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--starts", type=int, default=12)
    options.add_argument("--rollouts", type=int, default=8)
    options.add_argument("--steps", type=int, default=32)
    options.add_argument("--iterations", type=int, default=3)
    options.add_argument("--engine", default="eager", choices=get_args(Engine), help="how imagination runs")
    options.add_argument("--as-torchrl", action="store_true", help="an iteration of the size of theirs")
    asked = options.parse_args()
    policy = Policy.load(ASSETS / "policy.safetensors", precision=choose_precision())
    size = AS_TORCHRL if asked.as_torchrl else Size(
        starts=asked.starts, rollouts=asked.rollouts, chunks=asked.steps // policy.chunk, kept=asked.starts
    )  # fmt: skip
    seconds, parts = iterate(size, policy, engine=asked.engine, iterations=asked.iterations)
    print(f"{size.starts} starts x {size.rollouts} rollouts x {size.chunks} chunks of {policy.chunk}, "
          f"{size.kept} groups teach in {size.epochs} pass(es), {torch.get_num_threads()} thread(s), "
          f"{policy.precision}, {asked.engine}")  # fmt: skip
    print(f"{seconds:.2f} s an iteration, {size.starts * size.rollouts / seconds:.1f} rollouts/s, "
          f"{size.decisions / seconds:.0f} decisions/s")  # fmt: skip
    print(", ".join(f"{name} {100 * part / seconds:.0f} %" for name, part in sorted(parts.items())))
    peer = PEER_GROUPS * PEER_ROLLOUTS * PEER_DECISIONS
    ratio = (size.decisions / seconds) / (peer / PEER_S)
    print(
        f"{ratio:.1f} times as many decisions per second as TorchRL's published toy: {peer} in {PEER_S:g} s"
    )


if __name__ == "__main__":
    main()
