"""Episodes out of AutoEval's two recordings: arrays, pictures and headers. Which recordings belong together,
and what an episode may be used for, is decided in `join`.

The gateway has s_0 .. s_{T-1} and a_0 .. a_{T-1}; the dataset has s_1 .. s_T. Together they are a whole
episode; the gateway alone lacks the outcome of its last action, the dataset alone the state before its first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

import numpy as np

from robot_bridge.autoeval.attempt import Attempt
from robot_bridge.autoeval.tasks import EEF_CLIP, AutoEvalTask
from robot_bridge.autoeval.trajectory import Trajectory
from robot_bridge.autoeval_mg import AUTOEVAL_MG, MgTransform, bridge_state_of_mg
from robot_bridge.conventions import F32, F64, IMAGE_SIZE, achieved_actions
from robot_bridge.episode import (
    LIMITS_KEY,
    Convention,
    EpisodeHeader,
    ManifestLabel,
    Outcome,
    PolicyRef,
    StepArrays,
    ValidFor,
)
from robot_bridge.frames import FrameBlob, encode_jpeg
from robot_bridge.safety import FALLBACK

NAMESPACE: Final = UUID("3f0a4a52-6a0e-5b0b-9c0e-5d7c9b1f2a64")  # of the ids of joined episodes
JUDGE: Final = "autoeval"
REPORTED: Final = (
    *("need_human_intervention", "experienced_motor_failure", "num_eval_retries", "exceeded_joint_efforts"),
    *("pre_rollout_checks_failed", "post_rollout_checks_failed", "eval_rollout_time"),
)
FACT_MAX: Final = 200  # characters
UNUSABLE: Final = ValidFor(policy_eval=False, world_model=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinJob:
    """What is joined: our job, the task it was for, and what AutoEval says of it.

    `success_rate` is AutoEval's own number, a share, or None where it gave none. With `hub_only_at`, what is
    published but was never seen by our gateway becomes episodes too, dated so.
    """

    job_id: str
    task: AutoEvalTask
    station_id: str
    max_steps: int
    success_rate: float | None
    control_hz: float = 5.0
    hub_only_at: datetime | None = None

    @property
    def transform(self) -> MgTransform:
        """What AutoEval does to an action of this task."""
        return MgTransform(box_low=self.task.box_low, box_high=self.task.box_high, eef_clip=EEF_CLIP)

    @property
    def limits(self) -> str:
        """What AutoEval's cell lets through of it, as an episode's metadata has it."""
        box = {"box_low": self.task.box_low, "box_high": self.task.box_high}
        return json.dumps({**box, "step_xyz_max": EEF_CLIP}, sort_keys=True)

    def episode_id(self, kind: str, index: int) -> str:
        """The id of one episode: the same whenever it is joined."""
        return str(uuid5(NAMESPACE, f"{self.job_id}/{kind}/{index}"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draft:
    """An episode whose use is not decided yet."""

    header: EpisodeHeader
    steps: StepArrays
    frames: FrameBlob


def matched_draft(job: JoinJob, attempt: Attempt, trajectory: Trajectory) -> Draft:
    """The whole episode: T actions and T + 1 observations, with AutoEval's verdict."""
    native = np.concatenate([attempt.proprio, trajectory.proprio[-1:]])  # [T + 1, 8]
    jpegs = (*attempt.jpegs, encode_jpeg(trajectory.images[-1]))
    header = _attempt_header(
        job, attempt, outcome="completed", join="matched", provenance="verified", trajectory=trajectory.index
    )
    published = {
        "labels": _labels(job, trajectory, at=header.ended_at),
        "metadata": {**_reported(trajectory), **header.metadata},
    }
    return Draft(
        header=header.model_copy(update=published),
        steps=_attempt_steps(job, attempt, native=native, t_obs=_with_last(attempt, job.control_hz)),
        frames=_frames(jpegs),
    )


def gateway_draft(job: JoinJob, attempt: Attempt, *, join: str, provenance: str) -> Draft:
    """What the gateway alone knows: T - 1 actions between T observations; at least two of them are needed."""
    outcome: Outcome = "completed" if attempt.steps >= job.max_steps else "aborted_hw"
    return Draft(
        header=_attempt_header(job, attempt, outcome=outcome, join=join, provenance=provenance),
        steps=_attempt_steps(job, attempt, native=attempt.proprio, t_obs=attempt.t_recv),
        frames=_frames(attempt.jpegs),
    )


def hub_draft(job: JoinJob, trajectory: Trajectory, *, at: datetime, policy: PolicyRef) -> Draft:
    """What the dataset alone knows: a_1 .. a_{T-1} between s_1 .. s_T. Its times follow from the rate."""
    instants = np.arange(trajectory.count, dtype=np.float64) / job.control_hz
    sent = trajectory.action[1:]
    steps = StepArrays(
        raw_action=sent,
        native_action=sent,
        t_obs=instants,
        t_cmd=instants[:-1],
        infer_ms=np.zeros(len(sent), np.float32),
        flags=np.zeros(len(sent), np.uint32),
        **_states(job, sent, trajectory.proprio),
    )
    length = timedelta(seconds=float(instants[-1]))
    header = EpisodeHeader(
        episode_id=job.episode_id("hub", trajectory.index),
        policy=policy,
        convention=Convention(native=AUTOEVAL_MG),
        outcome="completed",
        labels=_labels(job, trajectory, at=at),
        started_at=at - length,
        ended_at=at,
        metadata={
            **_reported(trajectory),
            "source": "hub_only",
            "autoeval_job": job.job_id,
            "trajectory": str(trajectory.index),
            "times": "nominal",
            LIMITS_KEY: job.limits,
            "provenance": "unverified",
        },
        **_common(job),
    )
    return Draft(
        header=header, steps=steps, frames=_frames([encode_jpeg(image) for image in trajectory.images])
    )


def _attempt_header(
    job: JoinJob,
    attempt: Attempt,
    *,
    outcome: Outcome,
    join: str,
    provenance: str,
    trajectory: int | None = None,
) -> EpisodeHeader:
    metadata = {
        "autoeval_job": job.job_id,
        "attempt": str(attempt.index),
        "ended_by": attempt.ended_by,
        "join": join,
        "provenance": provenance,
        LIMITS_KEY: job.limits,
    }
    if trajectory is not None:
        metadata |= {"trajectory": str(trajectory), "last_t_obs": "estimated"}
    return EpisodeHeader(
        episode_id=job.episode_id("attempt", attempt.index),
        policy=attempt.policy,
        convention=Convention(native=AUTOEVAL_MG, rotation=attempt.rotation),
        outcome=outcome,
        started_at=attempt.started_at,
        ended_at=max(attempt.started_at, attempt.ended_at),
        metadata=metadata,
        **_common(job),
    )


def _common(job: JoinJob) -> dict[str, Any]:
    return {
        "station_id": job.station_id,
        "task_id": job.task.task_id,
        "instruction": job.task.instruction,
        "mode": "autoeval",
        "transform_id": job.transform.id,
        "control_hz": job.control_hz,
        "valid_for": UNUSABLE,
    }


def _attempt_steps(job: JoinJob, attempt: Attempt, *, native: F32, t_obs: F64) -> StepArrays:
    """As many steps as there are observations [n + 1] to stand around them."""
    count = len(native) - 1
    return StepArrays(
        raw_action=attempt.policy_action[:count],
        native_action=attempt.sent_action[:count],
        t_obs=t_obs,
        t_cmd=attempt.t_sent[:count],
        infer_ms=attempt.infer_ms[:count],
        flags=np.where(attempt.fallback[:count], FALLBACK, 0).astype(np.uint32),
        **_states(job, attempt.sent_action[:count], native),
    )


def _states(job: JoinJob, sent: F32, native: F32) -> dict[str, F32]:
    """What follows from the numbers on the wire: AutoEval does not say what it executed."""
    state = np.stack([bridge_state_of_mg(row) for row in native])
    return {
        "native_state": native,
        "state": state,
        "predicted_executed": job.transform.predict(sent, native),
        "achieved_action": achieved_actions(state),
    }


def _with_last(attempt: Attempt, control_hz: float) -> F64:
    """The times of T + 1 observations; that of the last is guessed: as long after its action as usual."""
    waits = attempt.t_recv[1:] - attempt.t_sent[:-1]
    wait = float(np.median(waits)) if len(waits) else 1.0 / control_hz
    return np.append(attempt.t_recv, attempt.t_sent[-1] + max(wait, 0.0))


def _labels(job: JoinJob, trajectory: Trajectory, *, at: datetime) -> tuple[ManifestLabel, ...]:
    """The classifier's verdict. Which wrong answer it gave is not published."""
    if trajectory.success is None:
        return ()
    answer = job.task.success_answer if trajectory.success else f"not {job.task.success_answer}"
    return (
        ManifestLabel(success=trajectory.success, source="classifier", judge=JUDGE, answer=answer, at=at),
    )


def _reported(trajectory: Trajectory) -> dict[str, str]:
    facts = trajectory.facts
    return {name: str(facts[name])[:FACT_MAX] for name in REPORTED if name in facts}


def _frames(jpegs: Sequence[bytes]) -> FrameBlob:
    return FrameBlob.of_jpegs(jpegs, width=IMAGE_SIZE, height=IMAGE_SIZE)
