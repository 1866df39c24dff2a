"""What a count of successes says about the success rate. Plain numbers in and out.

One rate is here, and the mean of several tasks' rates; comparing two is in `comparison`. Nothing here decides
about candidates: that is a sequential test and lives in `trial`.

Sources: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22; Brown,
Cai and DasGupta 2001, "Interval estimation for a binomial proportion", Statistical Science 16; Zou and
Donner 2008, "Construction of confidence limits about effect measures: a general approach", Statistics in
Medicine 27.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from daemon.beta import beta_quantile
from daemon.errors import CountsInvalid

Z_95 = 1.959964  # two-sided 95 % quantile of the standard normal
JEFFREYS = 0.5  # prior successes, and prior failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A range of success rates, both ends in [0, 1]; of a difference of rates, in [-1, 1]."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number and the interval around it."""

    value: float
    low: float
    high: float


def right_of_known(own: Mapping[str, int]) -> tuple[int, int]:
    """How many verdicts said what the label says, and how many were given, of counts by outcome."""
    right = own["hits"] + own["rightly_failed"]
    return right, right + own["false_hopes"] + own["missed"]


def wilson_interval(successes: int, episodes: int, *, z: float = Z_95) -> Interval:
    """Give the Wilson score interval of a success rate.

    Args:
        successes: how many episodes succeeded.
        episodes: how many were judged; 0 is allowed and says nothing, so it gives [0, 1].
        z: how many standard deviations wide; the default is 95 % confidence.

    Raises:
        CountsInvalid: the counts are negative, or more succeeded than were judged.

    Source: Wilson 1927, equation 4.
    """
    _require_counts(successes, episodes)
    if episodes == 0:
        return Interval(low=0.0, high=1.0)
    rate = successes / episodes
    shrink = 1.0 + z * z / episodes
    centre = (rate + z * z / (2 * episodes)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / episodes + z * z / (4 * episodes * episodes))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == episodes else min(1.0, centre + half)
    return Interval(low=low, high=high)


def jeffreys_interval(successes: int, episodes: int, *, z: float = Z_95) -> Interval:
    """Give the equal-tailed beta-binomial interval of a success rate under Jeffreys' prior, Beta(1/2, 1/2).

    With no success the lower end is 0, with no failure the upper end is 1, as the source advises.

    Args:
        successes, episodes, z: as for `wilson_interval`; z names the confidence by its normal quantile.

    Raises:
        CountsInvalid: the counts are negative, or more succeeded than were judged.

    Source: Brown, Cai and DasGupta 2001, section 3.1.3, equations 6 to 9.
    """
    _require_counts(successes, episodes)
    tail = NormalDist().cdf(-z)
    a, b = successes + JEFFREYS, episodes - successes + JEFFREYS
    low = 0.0 if successes == 0 else beta_quantile(tail, a, b)
    high = 1.0 if successes == episodes else beta_quantile(1.0 - tail, a, b)
    return Interval(low=low, high=high)


def stratified_rate(counts: Sequence[tuple[int, int]], *, z: float = Z_95) -> Estimate | None:
    """Give the mean of the tasks' success rates, every task weighing the same, with its interval.

    Pooling adds episodes up, so that a task that was tried more often weighs more; this does not. Tasks
    without a judged episode say nothing and are left out. The interval is composed of the tasks' own Wilson
    intervals: each end is as far from the mean as the root of the summed squares of their distances.

    Args:
        counts: successes and judged episodes of each task.

    Returns:
        None when no task has a judged episode.

    Raises:
        CountsInvalid: counts that cannot be.

    Source: Zou and Donner 2008, section 2 (limits of a sum from limits of its parts), with Wilson's limits.
    """
    judged = [(successes, episodes) for successes, episodes in counts if episodes != 0]
    if not judged:
        return None
    parts = [(k / n, wilson_interval(k, n, z=z)) for k, n in judged]
    mean = sum(rate for rate, _ in parts) / len(parts)
    below = math.sqrt(sum((rate - own.low) ** 2 for rate, own in parts)) / len(parts)
    above = math.sqrt(sum((own.high - rate) ** 2 for rate, own in parts)) / len(parts)
    return Estimate(value=mean, low=max(0.0, mean - below), high=min(1.0, mean + above))


def simultaneous_z(looks: int, *, z: float = Z_95) -> float:
    """How wide `looks` intervals must be so that all of them hold at once with the confidence of one.

    With thirty iterations on a page, one or two 95 % intervals miss the truth by luck; whoever picks the best
    of thirty should ask for these.

    Args:
        looks: how many intervals are looked at together; below 2 nothing changes.

    Source: Bonferroni's inequality; Dunn 1961, "Multiple comparisons among means", JASA 56.
    """
    if looks < 2:
        return z
    return -NormalDist().inv_cdf(NormalDist().cdf(-z) / looks)


def _require_counts(successes: int, episodes: int) -> None:
    if not 0 <= successes <= episodes:
        raise CountsInvalid(successes=successes, episodes=episodes)
