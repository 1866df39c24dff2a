"""Step by step: the policy decides here, and every chunk of actions is sent to the station."""

from __future__ import annotations

import threading

import torch

from daemon.learning.rollout import RolloutPlan, rollout
from daemon.phases.arms import Arms
from daemon.phases.station_env import StationEnv
from robot_bridge.client import StationClient
from robot_bridge.protocol import EpisodeMode, EpisodeRequest


class SteppedDrive:
    """The rollout loop that also imagines, on the real robot. Obeys `Drive`."""

    mode: EpisodeMode = "stepped"
    endpoint = None

    def __init__(self, arms: Arms, *, temperature: float) -> None:
        self._arms = arms
        self._temperature = temperature

    def run(self, client: StationClient, request: EpisodeRequest, *, stop: threading.Event) -> None:
        policy = self._arms.version(request.policy.version).policy
        env = StationEnv(client, client.create_episode(request), size=policy.image_size)
        plan = RolloutPlan(
            chunks=request.max_steps // policy.chunk, temperature=self._temperature, final_frames=1
        )
        generator = torch.Generator().manual_seed(request.seed)
        rollout(policy, env, env.starts, plan=plan, generator=generator)
        client.finish(request.episode_id)
