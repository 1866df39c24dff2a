"""Step by step: the policy decides here, and every chunk of actions is sent to the station.

Between two chunks the newest pictures are here, so a judge can be asked whether the task looks accomplished
and the episode ended; what the station then says of it is its own verdict, as it is at a full length.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass

import torch

from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.rollout import RolloutPlan, rollout
from daemon.phases.arms import Arms
from daemon.phases.station_env import StationEnv
from robot_bridge.client import StationClient
from robot_bridge.protocol import EpisodeMode, EpisodeRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyEnd:
    """The judge that ends an episode before its last step, and the checkpoint that it was loaded from.

    `without` are tasks at which it does not.
    """

    judge: ClassifierJudge
    checkpoint_id: str
    without: Collection[str] = ()


class SteppedDrive:
    """The rollout loop that also imagines, on the real robot. Obeys `Drive`."""

    mode: EpisodeMode = "stepped"
    endpoint = None

    def __init__(self, arms: Arms, *, temperature: float, early_end: EarlyEnd | None = None) -> None:
        self._arms = arms
        self._temperature = temperature
        self._early_end = early_end

    def ended_by(self, task_id: str) -> str | None:
        ends = self._ends(task_id)
        return None if ends is None else ends.checkpoint_id

    def run(self, client: StationClient, request: EpisodeRequest, *, stop: threading.Event) -> None:
        policy = self._arms.version(request.policy.version).policy
        ends = self._ends(request.task_id)
        judge = None if ends is None else ends.judge
        env = StationEnv(
            client,
            client.create_episode(request),
            size=policy.image_size,
            judged_size=None if judge is None else judge.image_size,
        )
        plan = RolloutPlan(
            chunks=-(-request.max_steps // policy.chunk),  # the last may be a part of one
            temperature=self._temperature,
            final_frames=1 if judge is None else judge.frames,
            stop=judge,
        )
        generator = torch.Generator().manual_seed(request.seed)
        rollout(policy, env, env.starts, plan=plan, generator=generator)
        client.finish(request.episode_id)

    def _ends(self, task_id: str) -> EarlyEnd | None:
        ends = self._early_end
        return None if ends is None or task_id in ends.without else ends
