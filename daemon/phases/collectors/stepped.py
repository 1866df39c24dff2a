"""Step by step: the policy decides here, and every chunk of actions is sent to the station."""

from __future__ import annotations

import threading

import torch

from daemon.learning.policy.policy import Policy
from daemon.learning.rollout import RolloutPlan, rollout
from daemon.phases.station_env import StationEnv
from robot_bridge.client import StationClient
from robot_bridge.protocol import EpisodeMode, EpisodeRequest


class SteppedDrive:
    """The rollout loop that also imagines, on the real robot. Obeys `Drive`."""

    mode: EpisodeMode = "stepped"
    endpoint = None

    def __init__(self, policy: Policy, *, temperature: float) -> None:
        self._policy = policy
        self._temperature = temperature

    def run(self, client: StationClient, request: EpisodeRequest, *, stop: threading.Event) -> None:
        env = StationEnv(client, client.create_episode(request))
        plan = RolloutPlan(
            chunks=request.max_steps // self._policy.chunk, temperature=self._temperature, final_frames=1
        )
        generator = torch.Generator().manual_seed(request.seed)
        rollout(self._policy, env, env.starts, plan=plan, generator=generator)
        client.finish(request.episode_id)
