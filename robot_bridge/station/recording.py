"""The episode that runs now: every sample, command and answer of it, until it becomes an `Episode`.

It moves nothing and decides nothing; the session does.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from robot_bridge.conventions import F32, Pose, achieved_actions, pose_vector
from robot_bridge.drivers.driver import Sample, StepOutcome
from robot_bridge.episode import Episode, EpisodeHeader, ManifestLabel, Outcome, ValidFor, assemble
from robot_bridge.errors import CameraStale, IdempotencyMismatch, MotorFault
from robot_bridge.frames import FrameBlob, encode_jpeg
from robot_bridge.protocol import (
    EpisodeReadyAnswer,
    EpisodeRequest,
    ObservationAnswer,
    StepAnswer,
    StepsAnswer,
    StepsRequest,
)
from robot_bridge.safety import IK_FAILED, STAGES, SafeCommand, SafetyPipeline, executed_action
from robot_bridge.steps import StepArrays

CAMERA: Final = "primary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the station adds to a request: where it runs, under which limits, since when, for which lease."""

    station_id: str
    instruction: str
    transform_id: str
    control_hz: float
    fence: int
    started_at: datetime
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Step:
    raw: F32
    executed: F32
    target: F32
    infer_ms: float
    flags: int


class Recording:
    """Grows by one step at a time. `in_flight` is the step whose outcome is not known yet."""

    def __init__(
        self,
        request: EpisodeRequest,
        *,
        circumstances: Circumstances,
        pipeline: SafetyPipeline,
        first: Sample,
        target: Pose,
    ) -> None:
        self.request = request
        self.circumstances = circumstances
        self.pipeline = pipeline
        self.target = target
        self.in_flight: int | None = None
        self._samples: list[Sample] = []
        self._jpegs: list[bytes] = []
        self._steps: list[_Step] = []
        self._answered: dict[int, tuple[StepsRequest, StepsAnswer]] = {}
        self._take(first)

    @property
    def count(self) -> int:
        """How many steps were executed; also the step that comes next."""
        return len(self._steps)

    def add(self, action: F32, *, command: SafeCommand, outcome: StepOutcome, infer_ms: float) -> StepAnswer:
        """Record one executed step.

        Raises:
            MotorFault, CameraStale: the driver's sample cannot be used.
        """
        flags, executed = command.flags, command.executed
        if not outcome.ik_ok:
            flags |= IK_FAILED
            self.pipeline.count_ik_failure()
            executed = executed_action(self.target, outcome.target, command.gripper)
        self._take(outcome.sample)
        self.target = outcome.target
        step = _Step(
            raw=action,
            executed=executed,
            target=pose_vector(outcome.target, command.gripper),
            infer_ms=infer_ms,
            flags=flags,
        )
        self._steps.append(step)
        return StepAnswer(
            t=self.count - 1,
            executed_action=step.executed.tolist(),
            target_pose=step.target.tolist(),
            flags=flags,
            clips=[stage for stage, bit in STAGES.items() if flags & bit],
            ik_ok=outcome.ik_ok,
            observation=self._observation(self.count),
        )

    def remember(self, request: StepsRequest, answer: StepsAnswer) -> None:
        """Keep an answer, so that the same request can be answered again without moving."""
        self._answered[request.t] = (request, answer)

    def replay(self, request: StepsRequest) -> StepsAnswer | None:
        """The answer given before to this step, or None when it is new.

        Raises:
            IdempotencyMismatch: the step was executed with other actions.
        """
        known = self._answered.get(request.t)
        if known is None:
            return None
        if known[0].actions != request.actions:
            raise IdempotencyMismatch(thing=f"step {request.t} of episode {self.request.episode_id}")
        return known[1]

    def ready(self) -> EpisodeReadyAnswer:
        """What creating the episode is answered with, also the second time."""
        return EpisodeReadyAnswer(
            episode_id=self.request.episode_id,
            task_id=self.request.task_id,
            instruction=self.circumstances.instruction,
            max_steps=self.request.max_steps,
            next_step=self.count,
            observation=self._observation(0),
        )

    def episode(self, outcome: Outcome, *, labels: tuple[ManifestLabel, ...], ended_at: datetime) -> Episode:
        """All of it as an episode; there must be at least one step.

        A policy is judged only by an episode that was completed over all its steps.
        """
        request, around = self.request, self.circumstances
        whole = outcome == "completed" and self.count == request.max_steps
        header = EpisodeHeader(
            episode_id=request.episode_id,
            station_id=around.station_id,
            task_id=request.task_id,
            instruction=around.instruction,
            mode=request.mode,
            policy=request.policy,
            transform_id=around.transform_id,
            control_hz=around.control_hz,
            outcome=outcome,
            labels=labels,
            valid_for=ValidFor(policy_eval=whole, world_model=True),
            started_at=around.started_at,
            ended_at=max(ended_at, around.started_at),
            metadata={**request.metadata, **around.metadata, "seed": str(request.seed)},
        )
        height, width = self._samples[0].image.shape[:2]
        frames = FrameBlob.of_jpegs(self._jpegs, width=width, height=height)
        return assemble(header, steps=self._arrays(), frames=frames)

    def _arrays(self) -> StepArrays:
        steps, samples = self._steps, self._samples
        times = np.array([sample.captured_at for sample in samples], dtype=np.float64)  # [T + 1]
        return StepArrays(
            raw_action=np.stack([step.raw for step in steps]),
            executed_action=np.stack([step.executed for step in steps]),
            achieved_action=achieved_actions([sample.proprio for sample in samples]),
            state=np.stack([sample.proprio for sample in samples]),
            qpos=np.stack([sample.qpos for sample in samples]),
            effort_mA=np.stack([sample.effort_mA for sample in samples]),
            target_pose=np.stack([step.target for step in steps]),
            t_obs=times,
            t_cmd=times[:-1].copy(),  # in stepped mode the robot's clock stands still until the command
            infer_ms=np.array([step.infer_ms for step in steps], dtype=np.float32),
            flags=np.array([step.flags for step in steps], dtype=np.uint32),
        )

    def _take(self, sample: Sample) -> None:
        readings = np.concatenate([sample.proprio, sample.qpos, sample.effort_mA])
        if not np.isfinite(readings).all():
            raise MotorFault(motor="(any)", fault="readings that are not finite")
        if self._samples and sample.captured_at <= self._samples[-1].captured_at:
            age = self._samples[-1].captured_at - sample.captured_at
            raise CameraStale(camera=CAMERA, age_s=age, limit_s=0.0)
        self._jpegs.append(encode_jpeg(sample.image))
        self._samples.append(sample)

    def _observation(self, t: int) -> ObservationAnswer:
        sample = self._samples[t]
        return ObservationAnswer(
            t=t,
            jpeg=base64.b64encode(self._jpegs[t]).decode(),
            proprio=sample.proprio.tolist(),
            qpos=sample.qpos.tolist(),
            captured_at=sample.captured_at,
        )
