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
from robot_bridge.description import EpisodeProgress
from robot_bridge.drivers.driver import Sample, StepOutcome
from robot_bridge.episode import (
    Episode,
    EpisodeHeader,
    ManifestLabel,
    Outcome,
    PolicyRef,
    ValidFor,
    assemble,
)
from robot_bridge.errors import BadArray, CameraStale, DriverError, IdempotencyMismatch, MotorFault
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
UNKNOWN_STEP: Final = "unknown_step"  # in the metadata of an episode: the step nobody knows the outcome of


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the station adds to a request: where it runs, under which limits, for which lease."""

    station_id: str
    instruction: str
    transform_id: str
    control_hz: float
    fence: int
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an episode ended, decided once."""

    outcome: Outcome
    labels: tuple[ManifestLabel, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Step:
    raw: F32
    executed: F32
    target: F32
    infer_ms: float
    flags: int


class Recording:
    """Grows by one step at a time.

    Attributes:
        target: the pose that the arm holds; the next action is composed on it.
        policy: who decides the actions, as far as it is known by now.
        in_flight: the step whose outcome is not known yet; `unknown_step` is one that stayed unknown.
        began_at, fed_at: the station's clock at the begin of the first and the end of the last step.
        held, holds: whether the dead-man holds the arm now, and how often it did.
        ending: how it ended, once that was decided; until it is in the spool it may wait for room.
    """

    def __init__(
        self,
        request: EpisodeRequest,
        *,
        circumstances: Circumstances,
        pipeline: SafetyPipeline,
        first: Sample,
        target: Pose,
        started_at: datetime,
    ) -> None:
        self.request = request
        self.circumstances = circumstances
        self.pipeline = pipeline
        self.target = target
        self.started_at = started_at
        self.policy: PolicyRef = request.policy
        self.in_flight: int | None = None
        self.unknown_step: int | None = None
        self.began_at: float | None = None
        self.fed_at = 0.0
        self.held = False
        self.holds = 0
        self.ending: Ending | None = None
        self._samples: list[Sample] = []
        self._jpegs: list[bytes] = []
        self._steps: list[_Step] = []
        self._answered: dict[int, tuple[StepsRequest, StepsAnswer]] = {}
        self._take(first)

    @property
    def episode_id(self) -> str:
        return self.request.episode_id

    @property
    def newest(self) -> Sample:
        """The last observation as the driver gave it."""
        return self._samples[-1]

    @property
    def progress(self) -> EpisodeProgress:
        """What a client may know of where it stands."""
        if self.began_at is None:
            return "ready"
        return "held" if self.held else "running"

    def observation(self) -> ObservationAnswer:
        """The last observation as a policy is shown it."""
        return self._observation(self.count)

    @property
    def count(self) -> int:
        """How many steps were executed; also the step that comes next."""
        return len(self._steps)

    def add(
        self,
        action: F32,
        *,
        command: SafeCommand,
        outcome: StepOutcome,
        infer_ms: float,
        extra_flags: int = 0,
    ) -> StepAnswer:
        """Record one executed step; `extra_flags` are those that no stage of the pipeline sets.

        Raises:
            MotorFault, CameraStale, DriverError: the driver's sample cannot be used.
        """
        self._take(outcome.sample)
        flags = command.flags | self.pipeline.took(outcome) | extra_flags
        executed = command.executed
        if not outcome.ik_ok:
            executed = executed_action(self.target, outcome.target, command.gripper)
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
            ik_ok=not flags & IK_FAILED,
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

    def episode(self, ending: Ending) -> Episode:
        """All of it as an episode; there must be at least one step.

        A policy is judged only by an episode that was completed over all its steps, or of which was said
        beforehand that it may be completed earlier.
        """
        request, around = self.request, self.circumstances
        whole = ending.outcome == "completed" and (request.may_end_early or self.count == request.max_steps)
        header = EpisodeHeader(
            episode_id=request.episode_id,
            station_id=around.station_id,
            task_id=request.task_id,
            instruction=around.instruction,
            mode=request.mode,
            policy=self.policy,
            transform_id=around.transform_id,
            control_hz=around.control_hz,
            outcome=ending.outcome,
            labels=ending.labels,
            valid_for=ValidFor(policy_eval=whole, world_model=True),
            started_at=self.started_at,
            ended_at=max(ending.at, self.started_at),
            metadata={**request.metadata, **around.metadata, **self._facts()},
        )
        height, width = self._samples[0].image.shape[:2]
        frames = FrameBlob.of_jpegs(self._jpegs, width=width, height=height)
        return assemble(header, steps=self._arrays(), frames=frames)

    def _facts(self) -> dict[str, str]:
        facts = {"seed": str(self.request.seed), "holds": str(self.holds)}
        if self.unknown_step is not None:
            facts[UNKNOWN_STEP] = str(self.unknown_step)
        return facts

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
        if self._samples and sample.image.shape != self._samples[0].image.shape:
            raise DriverError(detail=f"camera {CAMERA} changed its size to {sample.image.shape}")
        try:
            self._jpegs.append(encode_jpeg(sample.image))
        except BadArray as cause:
            raise DriverError(detail=f"camera {CAMERA} delivered no picture: {cause}") from cause
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
