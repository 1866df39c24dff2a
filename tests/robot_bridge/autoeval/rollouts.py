"""One rollout as it really was, and the two halves of it that the gateway and AutoEval keep."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from robot_bridge.autoeval.attempt import Attempt
from robot_bridge.autoeval.join_episodes import JoinJob
from robot_bridge.autoeval.tasks import task_of
from robot_bridge.autoeval.trajectory import Trajectory
from robot_bridge.episode import PolicyRef
from robot_bridge.frames import encode_jpeg
from tests.robot_bridge.autoeval.records import some_frames

JOB_ID = "6b1f9f4e-8d7e-4a75-9a55-0a6d6f3d2c11"
NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
TASK = task_of("open_drawer")
STEPS_MAX = 4
POLICY = PolicyRef(name="nano", version="3", digest="sha256:" + "ab" * 32)


@dataclass(frozen=True, eq=False)
class Rollout:
    """T actions and T + 1 states, of which nobody has all."""

    frames: np.ndarray  # [T + 1, 256, 256, 3]
    proprio: np.ndarray  # [T + 1, 8]
    action: np.ndarray  # [T, 7]

    @classmethod
    def random(cls, steps: int = STEPS_MAX, *, seed: int = 0) -> Rollout:
        rng = np.random.default_rng(seed)
        proprio = np.zeros((steps + 1, 8), np.float32)
        proprio[:, :3] = np.array([0.25, -0.05, 0.10]) + rng.uniform(-0.01, 0.01, (steps + 1, 3))
        proprio[:, 3:6] = np.array([0.1, 1.4, 0.2]) + rng.uniform(-0.05, 0.05, (steps + 1, 3))
        proprio[:, 7] = rng.uniform(0.1, 0.38, steps + 1)
        action = rng.uniform(-0.03, 0.03, (steps, 7)).astype(np.float32)
        action[:, 6] = rng.integers(0, 2, steps)
        return cls(some_frames(steps + 1, seed=seed), proprio, action)

    @property
    def steps(self) -> int:
        return len(self.action)

    def attempt(self, index: int = 0, **changes: Any) -> Attempt:
        """What the gateway recorded: s_0 .. s_{T-1}."""
        start = 100.0 * (index + 1)
        at = start + 0.5 * np.arange(self.steps)
        fields = {
            "job_id": JOB_ID,
            "index": index,
            "task_id": TASK.task_id,
            "instruction": TASK.instruction,
            "policy": POLICY,
            "rotation": "raw",
            "jpegs": tuple(encode_jpeg(frame) for frame in self.frames[:-1]),
            "proprio": self.proprio[:-1],
            "policy_action": self.action,
            "sent_action": self.action,
            "t_recv": at,
            "t_sent": at + 0.1,
            "infer_ms": np.full(self.steps, 40.0, np.float32),
            "fallback": np.zeros(self.steps, bool),
            "started_at": NOON + timedelta(minutes=index),
            "ended_at": NOON + timedelta(minutes=index, seconds=20),
            "ended_by": "reset",
        }
        return Attempt(**{**fields, **changes})

    def trajectory(self, index: int = 0, **changes: Any) -> Trajectory:
        """What AutoEval published: s_1 .. s_T."""
        fields = {
            "index": index,
            "instruction": TASK.instruction,
            "images": self.frames[1:],
            "action": self.action,
            "proprio": self.proprio[1:],
            "success": True,
            "facts": {"need_human_intervention": 0, "num_eval_retries": 0, "eval_rollout_time": 20.5},
        }
        return Trajectory(**{**fields, **changes})


def a_job(**changes: Any) -> JoinJob:
    fields = {
        "job_id": JOB_ID,
        "task": TASK,
        "station_id": "autoeval-widowx_drawer",
        "max_steps": STEPS_MAX,
        "success_rate": 1.0,
    }
    return JoinJob(**{**fields, **changes})
