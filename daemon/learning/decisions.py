"""What a policy can learn from: the decisions of informative rollouts, each with its advantage.

Judged rollouts go in; one row per decision (chunk) of every rollout worth learning from comes out, ready to
be cut into minibatches. What is not valid in a rollout is no row, so that no mean is taken over it; all that
was decided weighs the same, in a rollout that ended early as in one that did not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daemon.learning.errors import BadTensor
from daemon.learning.grpo import group_advantages, informative_groups
from daemon.learning.reward.judge import Verdicts
from daemon.learning.rollout import Rollouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """X decisions: what was seen, asked and done, and how it turned out for the whole rollout.

    Attributes:
        images: uint8 [X, 3, H, W].
        instructions: X sentences.
        tokens: int64 [X, L, A].
        log_probs: float32 [X, L, A], under the policy that acted.
        advantages: float32 [X], the rollout's, copied to each of its decisions.
    """

    images: Tensor
    instructions: tuple[str, ...]
    tokens: Tensor
    log_probs: Tensor
    advantages: Tensor

    def __len__(self) -> int:
        return len(self.instructions)

    def take(self, rows: Tensor) -> Decisions:
        """The decisions with these numbers, int64 [Y]."""
        return Decisions(
            images=self.images[rows],
            instructions=tuple(self.instructions[row] for row in rows.tolist()),
            tokens=self.tokens[rows],
            log_probs=self.log_probs[rows],
            advantages=self.advantages[rows],
        )


def joined(groups: Sequence[Decisions]) -> Decisions:
    """The decisions of several groups as one; there must be at least one group."""
    return Decisions(
        images=torch.cat([group.images for group in groups]),
        instructions=tuple(sentence for group in groups for sentence in group.instructions),
        tokens=torch.cat([group.tokens for group in groups]),
        log_probs=torch.cat([group.log_probs for group in groups]),
        advantages=torch.cat([group.advantages for group in groups]),
    )


def decisions_of(
    rollouts: Rollouts, verdicts: Verdicts, *, group_size: int, bounds: tuple[float, float]
) -> tuple[list[Decisions], Tensor]:
    """Keep what teaches: known rollouts of groups whose success lies within bounds and has spread.

    Args:
        rollouts: B = N·G rollouts, the G of a group next to each other.
        bounds: lowest and highest mean success of an informative group.

    Returns:
        The decisions of each informative group, and which groups those are, bool [N].

    Raises:
        BadTensor: B is no multiple of the group size, or there are not B verdicts.
        GroupTooSmall: the group size is below 2.
    """
    count = len(rollouts.instructions)
    if group_size < 1 or count % group_size or tuple(verdicts.success.shape) != (count,):
        found = f"{list(verdicts.success.shape)} for {count} rollouts in groups of {group_size}"
        raise BadTensor(name="verdicts", expected="one per rollout of whole groups", found=found)
    returns = verdicts.success.cpu().float().view(-1, group_size)  # [N, G]
    known = verdicts.known.cpu().view(-1, group_size)  # [N, G]
    advantages = group_advantages(returns, known)  # [N, G]
    informative = informative_groups(returns, known, low=bounds[0], high=bounds[1])  # [N]
    groups = [
        _group(rollouts, known[group], advantages[group], begins=group * group_size)
        for group in informative.nonzero().squeeze(1).tolist()
    ]
    return groups, informative


def _group(rollouts: Rollouts, known: Tensor, advantages: Tensor, *, begins: int) -> Decisions:
    """The decisions of one group's known rollouts, in main memory; known and advantages are [G].

    There a group that waited through a restart and one that was just imagined can be joined.
    """
    own = known.nonzero().squeeze(1)
    rows = own + begins
    valid = rollouts.valid[rows]  # [R, K]
    of = rows.repeat_interleave(valid.sum(dim=1))  # [X], the rollout of each decision
    return Decisions(
        images=rollouts.images[rows][valid].cpu(),
        instructions=tuple(rollouts.instructions[row] for row in of.tolist()),
        tokens=rollouts.tokens[rows][valid].cpu(),
        log_probs=rollouts.log_probs[rows][valid].cpu(),
        advantages=advantages[of - begins],
    )


def minibatches(decisions: Decisions, size: int, *, generator: torch.Generator) -> Iterator[Decisions]:
    """One pass over all decisions in random order, in parts of nearly equal length of at most `size`."""
    parts = -(-len(decisions) // size)
    if parts:
        order = torch.randperm(len(decisions), generator=generator)
        for rows in torch.tensor_split(order, parts):
            yield decisions.take(rows)
