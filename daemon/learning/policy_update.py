"""Improving a policy inside an environment: imagine groups, judge them, learn from the differences.

One update here is one batch of rollouts: N groups of G rollouts from N starts, judged once at the end, then
`epochs` passes over the decisions of the informative groups. Groups without spread teach nothing and are left
out, as are rollouts on which the judge declined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from daemon.learning.decisions import Decisions, decisions_of, minibatches
from daemon.learning.descent import require_finite
from daemon.learning.grpo import HIGHEST_MEAN, LOWEST_MEAN, ClipRange, clipped_policy_loss
from daemon.learning.policy.policy import Policy
from daemon.learning.reward.judge import Judge, Verdicts
from daemon.learning.rollout import Env, RolloutPlan, Starts, rollout

REPORTED_SHARE = 0.25  # share of the updates, at the end, that "last" success is measured over


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyUpdateConfig:
    """What an update of the policy does; `minibatch` counts decisions (chunks) per optimizer step."""

    updates: int = 8
    groups: int = 12
    group_size: int = 8
    chunks: int = 8
    temperature: float = 1.0
    lr: float = 5e-5
    clip: ClipRange = field(default_factory=ClipRange)
    epochs: int = 2
    minibatch: int = 256
    success_low: float = LOWEST_MEAN
    success_high: float = HIGHEST_MEAN
    max_grad_norm: float = 1.0
    max_approx_kl: float = 0.05  # nats per token; past it the remaining passes over a batch are skipped
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaginedSuccess:
    """Share of judged rollouts that succeeded, None where none was judged.

    `first` is the first update's, before any learning; `last` that of the last quarter of the updates.
    """

    first: float | None
    last: float | None
    rollouts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyUpdateReport:
    """What the updates amounted to; shares are means over all updates."""

    updates: int
    optimizer_steps: int
    imagined_success: dict[str, ImaginedSuccess]  # by instruction
    known_share: float
    informative_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOutcome:
    """One update as numbers: rollouts judged and succeeded by instruction; `learned` is a mean over steps."""

    judged: dict[str, int]
    succeeded: dict[str, int]
    known_share: float
    informative_share: float
    optimizer_steps: int
    learned: dict[str, float]

    def metrics(self) -> dict[str, float]:
        """For curves; loss and its kin are absent when no group was informative."""
        by_instruction = {
            f"imagined_success/{sentence}": self.succeeded[sentence] / count
            for sentence, count in self.judged.items()
            if count
        }
        judged = sum(self.judged.values())
        overall = {"imagined_success": sum(self.succeeded.values()) / judged} if judged else {}
        return {
            **overall,
            **by_instruction,
            "known_share": self.known_share,
            "informative_share": self.informative_share,
            "optimizer_steps": float(self.optimizer_steps),
            **self.learned,
        }


def update_policy(
    policy: Policy,
    env: Env,
    judge: Judge,
    *,
    starts: Starts,
    config: PolicyUpdateConfig,
    on_update: Callable[[int, dict[str, float]], None],
) -> PolicyUpdateReport:
    """Improve the policy in place; `on_update` gets update 1, 2, … and its metrics.

    Raises:
        GroupTooSmall: the group size is below 2.
        NonFiniteLoss: loss or gradient is NaN or infinite; weights are those before that optimizer step.
        BadTensor: environment, judge and policy do not fit each other.
    """
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=config.lr, weight_decay=0.0)
    draws = balanced_rows(starts.instructions, generator)
    plan = RolloutPlan(chunks=config.chunks, temperature=config.temperature, final_frames=judge.frames)
    history: list[UpdateOutcome] = []
    for update in range(1, config.updates + 1):
        rows = [row for row in (next(draws) for _ in range(config.groups)) for _ in range(config.group_size)]
        rollouts = rollout(policy, env, starts.take(rows), plan=plan, generator=generator)  # B = N*G
        verdicts = judge.judge(rollouts.final_frames, rollouts.instructions)
        decisions, informative = decisions_of(
            rollouts, verdicts, group_size=config.group_size, bounds=(config.success_low, config.success_high)
        )
        steps = _learn(policy, optimizer, decisions, config=config, update=update, generator=generator)
        history.append(_outcome(rollouts.instructions, verdicts, informative=informative, steps=steps))
        on_update(update, history[-1].metrics())
    return _report(history)


def balanced_rows(instructions: Sequence[str], generator: torch.Generator) -> Iterator[int]:
    """Numbers of starts, without end.

    Instructions take turns, and within an instruction every start comes once before any comes again.
    """
    rows: dict[str, list[int]] = {}
    for row, sentence in enumerate(instructions):
        rows.setdefault(sentence, []).append(row)
    waiting: dict[str, list[int]] = {sentence: [] for sentence in rows}
    while True:
        for sentence, own in rows.items():
            if not waiting[sentence]:
                order = torch.randperm(len(own), generator=generator).tolist()
                waiting[sentence] = [own[place] for place in order]
            yield waiting[sentence].pop()


def _learn(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    decisions: Decisions,
    *,
    config: PolicyUpdateConfig,
    update: int,
    generator: torch.Generator,
) -> list[dict[str, float]]:
    """Pass over the decisions until done or until the policy has moved far; the metrics of each step."""
    steps: list[dict[str, float]] = []
    for _ in range(config.epochs):
        for batch in minibatches(decisions, config.minibatch, generator=generator):
            steps.append(_step(policy, optimizer, batch, config=config, update=update))
            if steps[-1]["approx_kl"] > config.max_approx_kl:
                return steps
    return steps


def _step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batch: Decisions,
    *,
    config: PolicyUpdateConfig,
    update: int,
) -> dict[str, float]:
    """One optimizer step, in evaluation mode so that acting and learning see the same policy."""
    scored = policy.score(
        batch.images, batch.instructions, tokens=batch.tokens, temperature=config.temperature
    )
    log_probs = scored.log_probs.flatten(1)  # [X, L*A]
    result = clipped_policy_loss(
        log_probs,
        batch.log_probs.flatten(1).to(log_probs.device),
        advantages=batch.advantages.to(log_probs.device),
        valid=torch.ones_like(log_probs, dtype=torch.bool),
        clip=config.clip,
    )
    optimizer.zero_grad(set_to_none=True)
    result.loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), config.max_grad_norm)
    require_finite("update_policy", update, loss=result.loss, grad_norm=norm)
    optimizer.step()
    measured = {
        "loss": result.loss,
        "clip_fraction": result.clip_fraction,
        "approx_kl": result.approx_kl,
        "entropy": scored.entropy.mean(),
        "grad_norm": norm,
    }
    return {name: float(value.detach()) for name, value in measured.items()}


def _outcome(
    instructions: Sequence[str], verdicts: Verdicts, *, informative: Tensor, steps: Sequence[dict[str, float]]
) -> UpdateOutcome:
    judged = dict.fromkeys(instructions, 0)
    succeeded = dict.fromkeys(instructions, 0)
    known, success = verdicts.known.tolist(), verdicts.success.tolist()
    for sentence, counts, success_here in zip(instructions, known, success, strict=True):
        judged[sentence] += counts
        succeeded[sentence] += counts and success_here
    learned = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]} if steps else {}
    return UpdateOutcome(
        judged=judged,
        succeeded=succeeded,
        known_share=sum(known) / len(known),
        informative_share=float(informative.float().mean()),
        optimizer_steps=len(steps),
        learned=learned,
    )


def _report(history: Sequence[UpdateOutcome]) -> PolicyUpdateReport:
    tail = history[-math.ceil(len(history) * REPORTED_SHARE) :] if history else []
    sentences = list(dict.fromkeys(sentence for outcome in history for sentence in outcome.judged))
    return PolicyUpdateReport(
        updates=len(history),
        optimizer_steps=sum(outcome.optimizer_steps for outcome in history),
        imagined_success={
            sentence: ImaginedSuccess(
                first=_success(history[:1], sentence),
                last=_success(tail, sentence),
                rollouts=sum(outcome.judged.get(sentence, 0) for outcome in history),
            )
            for sentence in sentences
        },
        known_share=_mean([outcome.known_share for outcome in history]),
        informative_share=_mean([outcome.informative_share for outcome in history]),
    )


def _success(outcomes: Sequence[UpdateOutcome], sentence: str) -> float | None:
    judged = sum(outcome.judged.get(sentence, 0) for outcome in outcomes)
    return sum(outcome.succeeded.get(sentence, 0) for outcome in outcomes) / judged if judged else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
