"""Optimizer steps of a policy on what its rollouts taught, and all that an update is told about them.

The loss is GRPO's; the divergence from the policy that the updates began with may be added, and so may the
imitation of real episodes that succeeded: what holds on the robot is then not given up for what holds in
imagination alone. Tasks that are not imagined share the network with those that are, so on their real
frames the policy is held to what it did. Nothing here imagines or judges.

Source: Oh et al. 2018 (arXiv:1806.05635) for imitating one's own successes; Li and Hoiem 2016
(arXiv:1606.09282) equation 1 for holding a network to its former answers on tasks that are not learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from daemon.learning.batch import Clip
from daemon.learning.decisions import Decisions, minibatches
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
from daemon.learning.sft import Demonstrations, demonstrations_of, imitation

IMITATED = 64  # steps of real successes beside each minibatch
ANCHORED = 64  # steps of real episodes of the tasks that are not imagined, likewise


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
        stop_on_success: the judge is asked after every chunk, and a rollout that succeeded is over.
        remote_judge: judging is waiting for somebody else; meanwhile the batch that may be needed next is
            imagined.
        minibatch: decisions (chunks) per optimizer step.
        accumulate: parts that a minibatch, and what is added to it, is cut into where memory is short.
        kl: weight of the divergence from the policy that the updates began with; 0 leaves it out.
        imitation: weight of the cross-entropy, nats per token, of the arena's `proven` episodes.
        anchor: weight of the divergence, nats per token, on frames of the arena's `anchored` episodes.
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
    stop_on_success: bool = False
    remote_judge: bool = False
    temperature: float = 1.0
    lr: float = 5e-5
    clip: ClipRange = field(default_factory=ClipRange)
    ratio_of: RatioOf = "token"
    kl: float = 0.0
    imitation: float = 0.0
    anchor: float = 0.0
    epochs: int = 2
    minibatch: int = 256
    accumulate: int = 1
    success_low: float = LOWEST_MEAN
    success_high: float = HIGHEST_MEAN
    max_grad_norm: float = 1.0
    max_approx_kl: float = 0.05
    seed: int = 0

    @property
    def imagines_ahead(self) -> bool:
        """Whether a batch can be imagined before the verdicts on the one before it are known.

        It cannot where they say what its starts are, nor where the same judge is asked on the way: its budget
        could end in another batch then.
        """
        return self.remote_judge and not self.by_promise and not self.stop_on_success


class Learner:
    """Optimizer steps on decisions, in evaluation mode so that acting and learning see the same policy."""

    def __init__(
        self,
        policy: Policy,
        progress: UpdateProgress,
        *,
        config: PolicyUpdateConfig,
        proven: Sequence[Clip],
        anchored: Sequence[Clip] = (),
    ) -> None:
        self._policy, self._progress, self._config = policy, progress, config
        self._reference: Policy | None = None
        self._proven: Demonstrations | None = None
        self._anchored: Demonstrations | None = None
        if config.anchor and anchored:
            self._anchored = demonstrations_of(policy, anchored)
        if config.kl or self._anchored is not None:
            self._reference = policy.frozen_copy()
        if config.imitation and proven:
            self._proven = demonstrations_of(policy, proven)

    def learn(
        self, decisions: Decisions, *, on_step: Callable[[int], None] = lambda made: None
    ) -> list[dict[str, float]]:
        """Pass over the decisions until done or until the policy has moved far; the metrics of each step.

        Args:
            on_step: gets how many steps are made, after each.
        """
        steps: list[dict[str, float]] = []
        for _ in range(self._config.epochs):
            parts = minibatches(decisions, self._config.minibatch, generator=self._progress.generator)
            for batch in parts:
                steps.append(self._step(batch))
                on_step(len(steps))
                if steps[-1]["approx_kl"] > self._config.max_approx_kl:
                    return steps
        return steps

    def _step(self, batch: Decisions) -> dict[str, float]:
        """One optimizer step on a minibatch, whose parts go through the policy one after the other."""
        config, progress = self._config, self._progress
        weights = {
            "policy_loss": 1.0,
            "kl": config.kl,
            "anchor": config.anchor,
            "imitation": config.imitation,
        }
        progress.optimizer.zero_grad(set_to_none=True)
        means: dict[str, torch.Tensor] = {}
        for share, terms in self._parts(batch):
            weighted = [weights[name] * value for name, value in terms.items() if name in weights]
            loss = share * torch.stack(weighted).sum()
            loss.backward()
            means["loss"] = means.get("loss", 0.0) + loss.detach()
            for name, value in terms.items():
                means[name] = means.get(name, 0.0) + share * value.detach()
        norm = torch.nn.utils.clip_grad_norm_(self._policy.model.parameters(), config.max_grad_norm)
        require_finite("update_policy", progress.update, loss=means["loss"], grad_norm=norm)
        progress.optimizer.step()
        return {name: float(value) for name, value in {**means, "grad_norm": norm}.items()}

    def _parts(self, batch: Decisions) -> Iterator[tuple[float, dict[str, torch.Tensor]]]:
        """What adds up to the loss and to what is told of it: means of parts, and the share of each."""
        count = self._config.accumulate
        for rows in torch.arange(len(batch)).chunk(count):
            yield len(rows) / len(batch), self._decided(batch.take(rows))
        if self._anchored is not None and self._reference is not None:
            chosen = self._anchored.draw(ANCHORED, generator=self._progress.generator)
            for rows in chosen.chunk(count):
                yield len(rows) / ANCHORED, {"anchor": self._moved(self._reference, self._anchored, rows)}
        if self._proven is not None:
            generator = self._progress.generator
            chosen = self._proven.draw(IMITATED, generator=generator)
            for rows in chosen.chunk(count):
                missed, _ = imitation(self._policy, self._proven, rows, amount=None, generator=generator)
                yield len(rows) / IMITATED, {"imitation": missed}

    def _decided(self, batch: Decisions) -> dict[str, torch.Tensor]:
        """GRPO's loss on decisions, what is told of it, and the divergence if it is wanted."""
        config = self._config
        asked = batch.images, batch.instructions
        scored = self._policy.score(*asked, tokens=batch.tokens, temperature=config.temperature)
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
        terms = {
            "policy_loss": result.loss,
            "clip_fraction": result.clip_fraction,
            "approx_kl": result.approx_kl,
            "entropy": scored.entropy.mean(),
        }
        if self._reference is not None and config.kl:
            with torch.no_grad():
                stayed = self._reference.log_probs(*asked, batch.tokens, temperature=config.temperature)
            terms["kl"] = kl_penalty(log_probs, stayed.flatten(1), valid=valid)
        return terms

    def _moved(self, reference: Policy, anchored: Demonstrations, chosen: torch.Tensor) -> torch.Tensor:
        """KL(reference, policy) on some frames, mean of the tokens."""
        images, asked = anchored.frames[chosen], [anchored.instructions[i] for i in chosen.tolist()]
        with torch.no_grad():
            before = reference.logits(images, asked).log_softmax(dim=-1)  # [B, L, A, bins]
        now = self._policy.logits(images, asked).log_softmax(dim=-1)
        return (before.exp() * (before - now)).sum(dim=-1).mean()
