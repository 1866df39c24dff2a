"""Recording in parallel: one process per shard at a time, so that physics and pictures use every core.

Shards that lie in the work folder are not recorded again: pretraining that was interrupted goes on there.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from daemon.learning.batch import Clip
from daemon.learning.devices import choose_precision
from daemon.learning.policy.policy import Policy
from daemon.pretrain.cell_episodes import Actor, EpisodePlan, expert, policy_actor, record_all
from daemon.pretrain.clip_files import load_clips, save_clips
from daemon.pretrain.recipe import SHARD
from daemon.progress_bar import Bars
from robot_bridge.drivers.tasks import task_of


class Acting:
    """A policy file that acts instead of the experts; loaded in the process that records."""

    def __init__(self, policy: Path, *, temperature: float) -> None:
        self.policy = policy
        self.temperature = temperature

    def actors(self) -> Callable[[EpisodePlan], Actor]:
        policy = Policy.load(self.policy, precision=choose_precision())
        return lambda plan: policy_actor(
            policy,
            instruction=task_of(plan.task_id).instruction,
            temperature=self.temperature,
            seed=plan.seed,
        )


def recorded(
    plans: Sequence[EpisodePlan], work: Path, *, name: str, bars: Bars, acting: Acting | None = None
) -> list[Clip]:
    """The clips of these plans, in order; `acting` is None for the scripted experts."""
    shards = [plans[at : at + SHARD] for at in range(0, len(plans), SHARD)]
    files = [work / f"{name}-{number}.safetensors" for number in range(len(shards))]
    missing = [(shard, file) for shard, file in zip(shards, files, strict=True) if not file.is_file()]
    bars.say(f"{name}: {len(plans)} episodes, {len(shards) - len(missing)} of {len(shards)} shards lie there")
    context = multiprocessing.get_context("spawn")  # MuJoCo's GL contexts do not survive a fork
    # a process per shard: what a renderer leaks goes with it
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, max_tasks_per_child=1) as pool:
        begun = [pool.submit(record_shard, shard, file, acting=acting) for shard, file in missing]
        done = len(plans) - sum(len(shard) for shard, _ in missing)
        for (shard, _), future in zip(missing, begun, strict=True):
            file, done = future.result(), done + len(shard)
            bars.count(f"record {name}", done, len(plans), unit="episodes", text=f"wrote {file.name}")
    return [clip for file in files for clip in load_clips(file)]


def record_shard(plans: Sequence[EpisodePlan], file: Path, *, acting: Acting | None) -> Path:
    """Record one shard into its file; runs in a process of its own."""
    torch.set_num_threads(1)
    save_clips(file, record_all(plans, expert if acting is None else acting.actors()))
    return file
