"""Improving a policy inside an environment: imagine groups, judge them, learn from the differences.

One update imagines batches of N groups of G rollouts, each judged once at its end, until enough groups
inform, then passes `epochs` times over their decisions. Groups without spread teach nothing and are left out,
as are rollouts on which the judge declined; informative groups that an update has no room for wait for the
next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from daemon.learning.decisions import Decisions, decisions_of, joined, minibatches
from daemon.learning.descent import require_finite
from daemon.learning.grpo import (
    HIGHEST_MEAN,
    LOWEST_MEAN,
    ClipRange,
    RatioOf,
    clipped_policy_loss,
    kl_penalty,
)
from daemon.learning.policy.policy import Policy
from daemon.learning.policy_progress import UpdateProgress
from daemon.learning.policy_report import Groups, PolicyUpdateReport, UpdateOutcome, report_of
from daemon.learning.resumable import Resumable
from daemon.learning.reward.judge import Judge, JudgeExhausted, Verdicts
from daemon.learning.rollout import Env, RolloutPlan, Rollouts, Starts, rollout
from daemon.learning.start_draws import StartDraws

log = logging.getLogger(__name__)

OnUpdate = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyUpdateConfig:
    """What an update of the policy does.

    Attributes:
        groups: N, imagined at once.
        chunks: K, decisions of a rollout.
        informative_groups: as many an update learns from, and imagines up to `most_batches` batches to have
            them; None learns from whatever one batch gave.
        by_promise: starts are drawn by how much their groups will tell, see `start_draws.py`.
        common_noise: rollouts of a group share the environment's noise and differ by what they do alone.
        minibatch: decisions (chunks) per optimizer step.
        kl: weight of the divergence from the policy that the updates began with; 0 leaves it out.
        max_approx_kl: nats per token; past it the remaining passes over a batch are skipped.
    """

    updates: int = 8
    groups: int = 12
    group_size: int = 8
    chunks: int = 8
    informative_groups: int | None = None
    most_batches: int = 1
    by_promise: bool = False
    common_noise: bool = False
    temperature: float = 1.0
    lr: float = 5e-5
    clip: ClipRange = field(default_factory=ClipRange)
    ratio_of: RatioOf = "token"
    kl: float = 0.0
    epochs: int = 2
    minibatch: int = 256
    success_low: float = LOWEST_MEAN
    success_high: float = HIGHEST_MEAN
    max_grad_norm: float = 1.0
    max_approx_kl: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """Where a policy acts, from what, and who says how it went."""

    env: Env
    judge: Judge
    starts: Starts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """N groups, imagined and judged."""

    instructions: tuple[str, ...]
    verdicts: Verdicts
    groups: list[Decisions]  # the informative ones


def update_policy(
    policy: Policy,
    arena: Arena,
    *,
    config: PolicyUpdateConfig,
    on_update: OnUpdate,
    resumable: Resumable | None = None,
) -> PolicyUpdateReport:
    """Improve the policy in place.

    Args:
        on_update: gets update 1, 2, … and its metrics.
        resumable: where the state of interrupted updates lies, and when to write it.

    A judge that is exhausted ends the updates before their time; those that were made count.

    Raises:
        GroupTooSmall: the group size is below 2.
        NonFiniteLoss: loss or gradient is NaN or infinite; weights are those before that optimizer step.
        BadTensor: environment, judge and policy do not fit each other.
        CheckpointUnreadable: there is a state, and it is of other updates.
    """
    generator = torch.Generator().manual_seed(config.seed)
    draws = StartDraws(arena.starts.instructions, generator=generator, by_promise=config.by_promise)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=config.lr, weight_decay=0.0)
    progress = UpdateProgress(policy.model, optimizer, generator=generator, draws=draws)
    learner = _Learner(policy, progress, config=config)
    if resumable is not None:
        resumable.restore(progress)
    while progress.update <= config.updates:
        update = progress.update
        expired = progress.expire()
        try:
            batches = _enough(policy, arena, progress=progress, config=config)
        except JudgeExhausted as spent:
            log.warning("updates ended early update=%d reason=%s", update, spent)
            break
        learned = progress.take(config.informative_groups)
        steps = learner.learn(joined(learned)) if learned else []
        groups = _counted(batches, learned=len(learned), expired=expired, progress=progress, config=config)
        progress.history.append(_outcome(batches, groups=groups, steps=steps))
        on_update(update, progress.history[-1].metrics())
        if resumable is not None:
            resumable.save_if_due(progress)
    return report_of(progress.history)


def _enough(
    policy: Policy, arena: Arena, *, progress: UpdateProgress, config: PolicyUpdateConfig
) -> list[_Batch]:
    """Batches until enough groups inform, or until there are as many as may be."""
    batches = [_imagined(policy, arena, progress=progress, config=config)]
    while len(progress.waiting) < (config.informative_groups or 0) and len(batches) < config.most_batches:
        batches.append(_imagined(policy, arena, progress=progress, config=config))
    return batches


def _imagined(
    policy: Policy, arena: Arena, *, progress: UpdateProgress, config: PolicyUpdateConfig
) -> _Batch:
    """Roll out and judge one batch; its informative groups join those that wait."""
    size = config.group_size
    chosen = progress.draws.draw(config.groups)
    rows = [row for row in chosen for _ in range(size)]  # B = N·G
    seeds = _noise_seeds(config, progress.generator)
    plan = RolloutPlan(chunks=config.chunks, temperature=config.temperature, final_frames=arena.judge.frames)
    rollouts: Rollouts = rollout(
        policy, arena.env, arena.starts.take(rows), plan=plan, generator=progress.generator, seeds=seeds
    )
    verdicts = arena.judge.judge(rollouts.final_frames, rollouts.instructions)
    bounds = (config.success_low, config.success_high)
    groups, _ = decisions_of(rollouts, verdicts, group_size=size, bounds=bounds)
    known = verdicts.known.cpu().view(-1, size)
    successes = verdicts.success.cpu().view(-1, size) & known
    progress.draws.learn(chosen, successes.sum(1).tolist(), known.sum(1).tolist())
    progress.admit(groups)
    return _Batch(instructions=rollouts.instructions, verdicts=verdicts, groups=groups)


def _noise_seeds(config: PolicyUpdateConfig, generator: torch.Generator) -> list[int]:
    """One seed per rollout, or per group where its members share their noise."""
    same = config.group_size if config.common_noise else 1
    drawn = torch.randint(2**62, (config.groups * config.group_size // same,), generator=generator)
    return drawn.repeat_interleave(same).tolist()


class _Learner:
    """Optimizer steps on decisions, in evaluation mode so that acting and learning see the same policy."""

    def __init__(self, policy: Policy, progress: UpdateProgress, *, config: PolicyUpdateConfig) -> None:
        self._policy, self._progress, self._config = policy, progress, config
        self._reference: Policy | None = None
        if config.kl:
            self._reference = policy.frozen_copy()

    def learn(self, decisions: Decisions) -> list[dict[str, float]]:
        """Pass over the decisions until done or until the policy has moved far; the metrics of each step."""
        steps: list[dict[str, float]] = []
        for _ in range(self._config.epochs):
            parts = minibatches(decisions, self._config.minibatch, generator=self._progress.generator)
            for batch in parts:
                steps.append(self._step(batch))
                if steps[-1]["approx_kl"] > self._config.max_approx_kl:
                    return steps
        return steps

    def _step(self, batch: Decisions) -> dict[str, float]:
        config, policy = self._config, self._policy
        scored = policy.score(
            batch.images, batch.instructions, tokens=batch.tokens, temperature=config.temperature
        )
        log_probs = scored.log_probs.flatten(1)  # [X, L*A]
        valid = torch.ones_like(log_probs, dtype=torch.bool)
        result = clipped_policy_loss(
            log_probs,
            batch.log_probs.flatten(1).to(log_probs.device),
            advantages=batch.advantages.to(log_probs.device),
            valid=valid,
            clip=config.clip,
            ratio_of=config.ratio_of,
        )
        loss, measured = result.loss, {}
        if self._reference is not None:
            with torch.no_grad():
                stayed = self._reference.log_probs(
                    batch.images, batch.instructions, batch.tokens, temperature=config.temperature
                )
            measured["kl"] = kl_penalty(log_probs, stayed.flatten(1), valid=valid)
            loss = loss + config.kl * measured["kl"]
        self._progress.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), config.max_grad_norm)
        require_finite("update_policy", self._progress.update, loss=loss, grad_norm=norm)
        self._progress.optimizer.step()
        measured |= {
            "loss": loss,
            "clip_fraction": result.clip_fraction,
            "approx_kl": result.approx_kl,
            "entropy": scored.entropy.mean(),
            "grad_norm": norm,
        }
        return {name: float(value.detach()) for name, value in measured.items()}


def _counted(
    batches: Sequence[_Batch],
    *,
    learned: int,
    expired: int,
    progress: UpdateProgress,
    config: PolicyUpdateConfig,
) -> Groups:
    informative = sum(len(batch.groups) for batch in batches)
    imagined = config.groups * len(batches)
    chunks = config.chunks
    kept = sum(len(group) // chunks for batch in batches for group in batch.groups)
    return Groups(
        imagined=imagined,
        informative=informative,
        learned=learned,
        carried=len(progress.waiting),
        expired=expired,
        wasted_rollouts=(imagined + expired) * config.group_size - kept,
    )


def _outcome(
    batches: Sequence[_Batch], *, groups: Groups, steps: Sequence[dict[str, float]]
) -> UpdateOutcome:
    judged: dict[str, int] = {}
    succeeded: dict[str, int] = {}
    for batch in batches:
        known, success = batch.verdicts.known.tolist(), batch.verdicts.success.tolist()
        for sentence, counts, good in zip(batch.instructions, known, success, strict=True):
            judged[sentence] = judged.get(sentence, 0) + counts
            succeeded[sentence] = succeeded.get(sentence, 0) + (counts and good)
    learned = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]} if steps else {}
    return UpdateOutcome(
        judged=judged,
        succeeded=succeeded,
        known_share=sum(judged.values()) / sum(len(batch.instructions) for batch in batches),
        groups=groups,
        optimizer_steps=len(steps),
        learned=learned,
    )
