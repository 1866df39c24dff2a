"""Our recording of an AutoEval job and AutoEval's own, joined into episodes: the only way to them.

What arrives at the gateway is unverified: anybody who learns its address could feed it. It becomes an episode
that may be used when AutoEval published the same actions and the same pictures. Attempts that AutoEval
dropped, because motors failed, are kept for the world model where others verify the job. AutoEval's success
rate and the labels must tell the same, or the job is partial and says nothing of the policy.

How episodes are put together is in `join_episodes`, how recordings are paired in `matching`. Joining twice
gives the same episodes, byte for byte.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final, Literal

from robot_bridge.autoeval.attempt import Attempt
from robot_bridge.autoeval.errors import JoinMismatch
from robot_bridge.autoeval.join_episodes import (
    UNUSABLE,
    Draft,
    JoinJob,
    gateway_draft,
    hub_draft,
    matched_draft,
)
from robot_bridge.autoeval.matching import best_match
from robot_bridge.autoeval.trajectory import Trajectory
from robot_bridge.episode import Episode, PolicyRef, ValidFor, assemble

__all__ = ["JoinJob", "Joined", "join", "unjoined"]

log = logging.getLogger(__name__)

RATE_DECIMALS: Final = 4  # AutoEval rounds its success rate so
OBSERVATIONS_MIN: Final = 2
SOMEBODY: Final = PolicyRef(name="autoeval")


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What came of a job.

    `matched` trajectories have an attempt of ours; `hub_only` ones have none. Of the attempts without a
    trajectory, `retries` were cut short and run again, `unpublished` ones are whole but were never uploaded,
    `disputed` ones have the actions of a trajectory and other pictures, and `too_short` ones hold less than
    two observations and are no episode. `success_rate` is AutoEval's number, `mean_of_labels` ours over all
    published labels, rounded alike. `reasons` says why a job is only partial.
    """

    episodes: tuple[Episode, ...]
    matched: int
    retries: int
    unpublished: int
    disputed: int
    too_short: int
    hub_only: int
    success_rate: float | None
    mean_of_labels: float | None
    reasons: tuple[str, ...]

    @property
    def state(self) -> Literal["joined", "partial"]:
        """How the job ends."""
        return "partial" if self.reasons else "joined"

    @property
    def checks(self) -> dict[str, Any]:
        """Everything but the episodes, as JSON."""
        counts = ("matched", "retries", "unpublished", "disputed", "too_short", "hub_only")
        return {
            **{name: getattr(self, name) for name in counts},
            "episodes": len(self.episodes),
            "success_rate": self.success_rate,
            "mean_of_labels": self.mean_of_labels,
            "reasons": list(self.reasons),
        }


@dataclass(slots=True)
class _Tally:
    """What was found so far while trajectories pass by."""

    free: list[Attempt]
    drafts: list[tuple[Draft, bool]] = field(default_factory=list)  # and whether its label may count
    hub: list[Draft] = field(default_factory=list)
    disputed: set[int] = field(default_factory=set)
    labels: list[bool] = field(default_factory=list)
    hub_only: int = 0


def join(job: JoinJob, attempts: Sequence[Attempt], trajectories: Iterable[Trajectory]) -> Joined:
    """Join the attempts that the gateway recorded with the trajectories that AutoEval published.

    Trajectories are taken one by one, so that `Dataset.stream` can be handed over as it is.

    Raises:
        JoinMismatch: a recording is of another job or another task; nothing is joined.
    """
    tally = _Tally(free=_checked(job, attempts))
    for trajectory in trajectories:
        _place(job, trajectory, tally)
    mean = round(fmean(tally.labels), RATE_DECIMALS) if tally.labels else None
    mismatch = _mismatch(job, mean)
    episodes = [
        _episode(draft, ValidFor(policy_eval=may_count and not mismatch, world_model=True))
        for draft, may_count in tally.drafts
    ]
    is_verified = bool(tally.drafts)
    episodes += [_episode(draft, ValidFor(policy_eval=False, world_model=True)) for draft in tally.hub]
    left = [attempt for attempt in tally.free if attempt.steps >= OBSERVATIONS_MIN]
    episodes += [_leftover_episode(job, attempt, tally, is_verified=is_verified) for attempt in left]
    undisputed = [attempt for attempt in left if attempt.index not in tally.disputed]
    unpublished = sum(attempt.steps >= job.max_steps for attempt in undisputed)
    joined = Joined(
        episodes=tuple(episodes),
        matched=len(tally.drafts),
        retries=len(undisputed) - unpublished,
        unpublished=unpublished,
        disputed=len(tally.disputed),
        too_short=len(tally.free) - len(left),
        hub_only=tally.hub_only,
        success_rate=job.success_rate,
        mean_of_labels=mean,
        reasons=_reasons(mismatch, tally, unpublished=unpublished),
    )
    log.info("autoeval job joined job=%s state=%s %s", job.job_id, joined.state, joined.checks)
    return joined


def unjoined(job: JoinJob, attempts: Sequence[Attempt], *, for_world_model: bool = False) -> Joined:
    """What there is of a job whose recordings AutoEval never published: nothing verified, no label.

    Episodes are kept to be looked at, and may be used for nothing; with `for_world_model` somebody vouches
    for them, and they may train a world model.

    Raises:
        JoinMismatch: an attempt is of another job or another task.
    """
    found = _checked(job, attempts)
    left = [attempt for attempt in found if attempt.steps >= OBSERVATIONS_MIN]
    use = ValidFor(policy_eval=False, world_model=for_world_model)
    drafts = [gateway_draft(job, attempt, join="unjoined", provenance="unverified") for attempt in left]
    return Joined(
        episodes=tuple(_episode(draft, use) for draft in drafts),
        matched=0,
        retries=0,
        unpublished=len(left),
        disputed=0,
        too_short=len(found) - len(left),
        hub_only=0,
        success_rate=job.success_rate,
        mean_of_labels=None,
        reasons=("AutoEval published no recordings of this job",),
    )


def _checked(job: JoinJob, attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts by index, all of this job and each once."""
    for attempt in attempts:
        found = (attempt.job_id, attempt.task_id, attempt.instruction)
        expected = (job.job_id, job.task.task_id, job.task.instruction)
        if found != expected:
            thing = f"attempt {attempt.index}"
            raise JoinMismatch(job_id=job.job_id, thing=thing, expected=expected, found=found)
    indices = [attempt.index for attempt in attempts]
    if len(set(indices)) != len(indices):
        raise JoinMismatch(job_id=job.job_id, thing="attempts", expected="each once", found=indices)
    return sorted(attempts, key=lambda attempt: attempt.index)


def _place(job: JoinJob, trajectory: Trajectory, tally: _Tally) -> None:
    """Find the attempt of one trajectory, or note that there is none."""
    if trajectory.instruction != job.task.instruction:
        thing, expected = f"trajectory {trajectory.index}", repr(job.task.instruction)
        raise JoinMismatch(
            job_id=job.job_id, thing=thing, expected=expected, found=repr(trajectory.instruction)
        )
    if trajectory.success is not None:
        tally.labels.append(trajectory.success)
    match = best_match(trajectory, tally.free)
    if match is not None and match.agrees:
        tally.free.remove(match.attempt)
        tally.disputed.discard(match.attempt.index)
        draft = matched_draft(job, match.attempt, trajectory)
        tally.drafts.append((draft, _may_count(match.attempt, trajectory)))
        return
    if match is not None:
        tally.disputed.add(match.attempt.index)
    tally.hub_only += 1
    if job.hub_only_at is not None and trajectory.count >= OBSERVATIONS_MIN:
        tally.hub.append(hub_draft(job, trajectory, at=job.hub_only_at, policy=SOMEBODY))


def _may_count(attempt: Attempt, trajectory: Trajectory) -> bool:
    """A label counts for the policy when the policy decided every step, in a scene that was in order."""
    in_order = not trajectory.facts.get("pre_rollout_checks_failed")
    return trajectory.success is not None and in_order and not attempt.fallback.any()


def _leftover_episode(job: JoinJob, attempt: Attempt, tally: _Tally, *, is_verified: bool) -> Episode:
    if attempt.index in tally.disputed:
        return _episode(gateway_draft(job, attempt, join="disputed", provenance="unverified"), UNUSABLE)
    kind = "unpublished" if attempt.steps >= job.max_steps else "retry"
    provenance = "by_job" if is_verified else "unverified"
    use = ValidFor(policy_eval=False, world_model=is_verified)
    return _episode(gateway_draft(job, attempt, join=kind, provenance=provenance), use)


def _episode(draft: Draft, use: ValidFor) -> Episode:
    header = draft.header.model_copy(update={"valid_for": use})
    return assemble(header, steps=draft.steps, frames=draft.frames)


def _mismatch(job: JoinJob, mean: float | None) -> str:
    """Why AutoEval's number and the labels do not tell the same, or ""."""
    if job.success_rate is None:
        return f"AutoEval gave no success rate, its labels average {mean}"
    if mean is None or mean != round(job.success_rate, RATE_DECIMALS):
        return f"AutoEval's success rate is {job.success_rate}, its labels average {mean}"
    return ""


def _reasons(mismatch: str, tally: _Tally, *, unpublished: int) -> tuple[str, ...]:
    found = {
        mismatch: bool(mismatch),
        f"{tally.hub_only} published trajectories have no attempt of ours": tally.hub_only > 0,
        f"{unpublished} whole attempts were never published": unpublished > 0,
        f"{len(tally.disputed)} attempts saw other pictures than AutoEval published": bool(tally.disputed),
    }
    return tuple(reason for reason, holds in found.items() if holds)
