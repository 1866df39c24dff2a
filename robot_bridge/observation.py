"""What a client of a station gets to see, as numpy records. The wire form is in `protocol`."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_bridge.conventions import F32
from robot_bridge.errors import FramesCorrupt
from robot_bridge.frames import decode_jpeg
from robot_bridge.protocol import EpisodeReadyAnswer, ObservationAnswer, StepsAnswer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """Observation t: picture uint8 [H, W, 3] RGB, bridge_v2 proprio [7], joints [8].

    The picture is decoded from the very JPEG that the episode will hold. `captured_at` is seconds on the
    robot's clock.
    """

    t: int
    image: NDArray[np.uint8]
    proprio: F32
    qpos: F32
    captured_at: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpisodeReady:
    """An episode that waits for its first action."""

    episode_id: str
    task_id: str
    instruction: str
    max_steps: int
    next_step: int
    observation: Observation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepResult:
    """What k actions came to: k observations (t+1 .. t+k) and, per action, what was really executed.

    executed_actions [k, 7] bridge_v2, target_poses [k, 7] in the layout of a state, flags [k] bits of
    `robot_bridge.safety`.
    """

    episode_id: str
    next_step: int
    observations: tuple[Observation, ...]
    executed_actions: F32
    target_poses: F32
    flags: NDArray[np.uint32]

    @property
    def last(self) -> Observation:
        """The newest observation: what to decide the next action on."""
        return self.observations[-1]


def read_observation(answer: ObservationAnswer, *, width: int, height: int) -> Observation:
    """The record in a wire observation whose camera delivers width × height pixels.

    Raises:
        FramesCorrupt: the picture is not a whole JPEG of that size.
    """
    try:
        jpeg = base64.b64decode(answer.jpeg, validate=True)
    except binascii.Error as cause:
        raise FramesCorrupt(thing="picture", expected="base64", found=str(cause)) from cause
    return Observation(
        t=answer.t,
        image=decode_jpeg(jpeg, width=width, height=height),
        proprio=np.array(answer.proprio, dtype=np.float32),
        qpos=np.array(answer.qpos, dtype=np.float32),
        captured_at=answer.captured_at,
    )


def read_ready(answer: EpisodeReadyAnswer, *, width: int, height: int) -> EpisodeReady:
    """The record in the answer to a created episode."""
    return EpisodeReady(
        episode_id=answer.episode_id,
        task_id=answer.task_id,
        instruction=answer.instruction,
        max_steps=answer.max_steps,
        next_step=answer.next_step,
        observation=read_observation(answer.observation, width=width, height=height),
    )


def read_steps(answer: StepsAnswer, *, width: int, height: int) -> StepResult:
    """The record in the answer to k actions."""
    steps = answer.steps
    return StepResult(
        episode_id=answer.episode_id,
        next_step=answer.next_step,
        observations=tuple(read_observation(s.observation, width=width, height=height) for s in steps),
        executed_actions=np.array([step.executed_action for step in steps], dtype=np.float32),
        target_poses=np.array([step.target_pose for step in steps], dtype=np.float32),
        flags=np.array([step.flags for step in steps], dtype=np.uint32),
    )
