"""Group-relative policy optimisation: returns of a group in, one policy loss out.

A *group* is G rollouts imagined from the same first observation and instruction. This module knows tensors
only: no world model, no optimizer, no database. Names are those of README, "Words".

Source: Shao et al. 2024 (arXiv:2402.03300) section 4.1 for the advantage; Schulman et al. 2017
(arXiv:1707.06347) equation 7 for the clipped ratio; Yu et al. 2025 (arXiv:2503.14476) sections 3.1 and 3.2
for the wider upper clip and for leaving out groups without spread; Zheng et al. 2025 (arXiv:2507.18071)
equation 7 for one ratio per chunk. World-Gymnast has no KL penalty; here it is a term that may be added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from daemon.learning.errors import BadTensor, LearningError

MIN_SPREAD = 1e-6  # returns closer than this, in reward units, count as equal
LOWEST_MEAN, HIGHEST_MEAN = 0.1, 0.9  # World-Gymnast's bounds: with G = 8 groups of 1 to 7 successes
LEAST_KNOWN = 0.5  # share of a group: what the judge mostly declined on tells little of the rest
RatioOf = Literal["token", "chunk"]
FARTHEST = 20.0  # nats that a token may move; e to the 20th is still finite, times zero too
ROUNDING = 1e-6  # a float32 mean may miss such a bound by this much and still be on it


class GroupTooSmall(LearningError):
    """A group of one has nothing to compare itself with."""

    code = "group_too_small"

    def __init__(self, *, shape: tuple[int, ...]) -> None:
        super().__init__(
            f"returns should be [N, G] with G of at least 2, found {list(shape)}. Raise the group size."
        )


class ClipRangeInvalid(LearningError):
    """Bounds between which no ratio of two policies can lie sensibly."""

    code = "clip_range_invalid"

    def __init__(self, *, low: float, high: float) -> None:
        super().__init__(
            f"clip range should have low in (0, 1) and high above 0, found low {low} and high {high}. "
            "Correct the spec."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRange:
    """How far the new policy may move from the one that acted: ratio in [1 - low, 1 + high].

    Raises:
        ClipRangeInvalid: low is not in (0, 1), or high is not positive and finite.
    """

    low: float = 0.2
    high: float = 0.28

    def __post_init__(self) -> None:
        if not (0 < self.low < 1 and 0 < self.high < float("inf")):
            raise ClipRangeInvalid(low=self.low, high=self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLoss:
    """Scalars: `loss` with gradient; `clip_fraction` and `approx_kl` (nats per token) without."""

    loss: Tensor
    clip_fraction: Tensor
    approx_kl: Tensor


def group_advantages(returns: Tensor, known: Tensor | None = None) -> Tensor:
    """Compare every rollout with the others of its group.

    Args:
        returns: one return per rollout, [N, G]: N groups of G rollouts.
        known: bool [N, G], true where the judge committed itself; None when it always did.

    Returns:
        Advantages [N, G]; over the known rollouts each row has mean 0 and population standard deviation 1.
        Unknown ones are 0 and do not enter mean or deviation. A row whose known returns are all equal teaches
        nothing and comes back as zeros.

    Raises:
        GroupTooSmall: G is below 2, so there is nothing to compare with.
        BadTensor: known is not bool [N, G], or a known return is NaN or infinite.

    Source: Shao et al. 2024, section 4.1.2 (outcome supervision).
    """
    known = _known(returns, known)
    values = torch.where(known, returns, 0.0)
    if not bool(torch.isfinite(values).all()):
        raise BadTensor(name="returns", expected="finite where known", found="NaN or infinity")
    count = known.sum(dim=1, keepdim=True).clamp_min(1)  # [N, 1]
    centred = torch.where(known, values - values.sum(dim=1, keepdim=True) / count, 0.0)  # [N, G]
    spread = (centred.square().sum(dim=1, keepdim=True) / count).sqrt()  # [N, 1]
    return torch.where(spread > MIN_SPREAD, centred / spread.clamp_min(MIN_SPREAD), 0.0)


def informative_groups(
    returns: Tensor, known: Tensor | None = None, *, low: float = LOWEST_MEAN, high: float = HIGHEST_MEAN
) -> Tensor:
    """Groups worth learning from: bool [N], mean return of the known rollouts within [low, high].

    A group of whose rollouts fewer than two, or fewer than half, are known is never informative, nor is one
    whose known returns are all equal.

    Raises:
        GroupTooSmall: returns are not [N, G] with G of at least 2.
        BadTensor: known is not bool [N, G], or a known return is NaN or infinite.

    Source: Yu et al. 2025, section 3.2 (dynamic sampling).
    """
    known = _known(returns, known)
    spread = group_advantages(returns, known).abs().sum(dim=1) > 0  # [N]
    count = known.sum(dim=1)
    mean = torch.where(known, returns, 0.0).sum(dim=1) / count.clamp_min(1)
    enough = count >= LEAST_KNOWN * returns.shape[1]
    return spread & enough & (mean >= low - ROUNDING) & (mean <= high + ROUNDING)


def clipped_policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    *,
    advantages: Tensor,
    valid: Tensor,
    clip: ClipRange,
    ratio_of: RatioOf = "token",
) -> PolicyLoss:
    """Negated clipped surrogate: mean over the valid tokens of a row, then over the rows that have any.

    Args:
        log_probs: of the tokens that were acted, under the policy that learns, [B, X] with gradient.
        old_log_probs: the same under the policy that acted, [B, X].
        advantages: one per row, [B].
        valid: bool [B, X], tokens that count.
        ratio_of: every token has its own ratio, or all of a row share the geometric mean of theirs: a chunk
            is decided at once and may be clipped at once.

    Returns:
        clip_fraction is the share of valid tokens whose gradient the clip took away; approx_kl the mean of
        ratio - 1 - ln ratio over valid tokens. Tokens that moved by more than FARTHEST nats have no gradient.

    Raises:
        BadTensor: shapes do not fit each other, or no token is valid.

    Source: Schulman et al. 2017, equation 7; Zheng et al. 2025, equation 7; for approx_kl, Schulman 2020,
    "Approximating KL Divergence", k3.
    """
    _check_loss_inputs(log_probs, old_log_probs, advantages=advantages, valid=valid)
    log_ratio = torch.where(valid, log_probs - old_log_probs.detach(), 0.0)  # [B, X]
    log_ratio = log_ratio.clamp(-FARTHEST, FARTHEST)
    tokens = valid.sum(dim=1)  # [B]
    moved = log_ratio  # [B, X], by which each token's ratio is told
    if ratio_of == "chunk":
        moved = (log_ratio.sum(dim=1, keepdim=True) / tokens.clamp_min(1)[:, None]).expand_as(log_ratio)
    ratio = moved.exp()
    gain = ratio * advantages[:, None]
    bounded = ratio.clamp(1 - clip.low, 1 + clip.high) * advantages[:, None]
    by_row = torch.where(valid, torch.minimum(gain, bounded), 0.0).sum(dim=1) / tokens.clamp_min(1)
    with torch.no_grad():
        clipped = (bounded < gain) & valid
        divergence = torch.where(valid, log_ratio.exp() - 1 - log_ratio, 0.0)
        total = valid.sum()
    return PolicyLoss(
        loss=-by_row.sum() / (tokens > 0).sum(),
        clip_fraction=clipped.sum() / total,
        approx_kl=divergence.sum().detach() / total,
    )


def kl_penalty(log_probs: Tensor, reference_log_probs: Tensor, *, valid: Tensor) -> Tensor:
    """How far the policy is from a reference, in nats: mean over the valid tokens of a row, then over rows.

    Args:
        log_probs: of the tokens that were acted, under the policy that learns, [B, X] with gradient.
        reference_log_probs: the same under the policy that it should stay near, [B, X].
        valid: bool [B, X], tokens that count.

    Returns:
        A scalar with gradient, 0 where both agree and never below.

    Raises:
        BadTensor: shapes do not fit each other, or no token is valid.

    Source: Shao et al. 2024, equation 4.
    """
    rows = log_probs.new_zeros(len(log_probs))
    _check_loss_inputs(log_probs, reference_log_probs, advantages=rows, valid=valid)
    to_reference = torch.where(valid, reference_log_probs.detach() - log_probs, 0.0)  # [B, X]
    to_reference = to_reference.clamp(-FARTHEST, FARTHEST)
    tokens = valid.sum(dim=1)  # [B]
    by_row = (to_reference.exp() - 1 - to_reference).sum(dim=1) / tokens.clamp_min(1)
    return by_row.sum() / (tokens > 0).sum()


def _known(returns: Tensor, known: Tensor | None) -> Tensor:
    if returns.ndim != 2 or returns.shape[1] < 2:
        raise GroupTooSmall(shape=tuple(returns.shape))
    if known is None:
        return torch.ones_like(returns, dtype=torch.bool)
    if known.dtype != torch.bool or known.shape != returns.shape:
        found = f"{known.dtype} {list(known.shape)}"
        raise BadTensor(name="known", expected=f"bool {list(returns.shape)}", found=found)
    return known


def _check_loss_inputs(log_probs: Tensor, old: Tensor, *, advantages: Tensor, valid: Tensor) -> None:
    if log_probs.ndim != 2 or old.shape != log_probs.shape:
        found = f"{list(log_probs.shape)} and {list(old.shape)}"
        raise BadTensor(name="log_probs and old_log_probs", expected="[B, X] both", found=found)
    if advantages.shape != log_probs.shape[:1]:
        expected, found = str(list(log_probs.shape[:1])), str(list(advantages.shape))
        raise BadTensor(name="advantages", expected=expected, found=found)
    if valid.dtype != torch.bool or valid.shape != log_probs.shape or not bool(valid.any()):
        found = f"{valid.dtype} {list(valid.shape)} with {int(valid.sum())} true"
        expected = f"bool {list(log_probs.shape)} with at least one true"
        raise BadTensor(name="valid", expected=expected, found=found)
