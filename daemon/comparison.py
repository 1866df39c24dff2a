"""Are two success rates different, by how much, and how many episodes would it take to know.

For policies that are compared once, looking back. A candidate is tried against the champion by the sequential
test of `trial`, which may be asked after every episode; an interval of here may not.

Sources: Newcombe 1998, "Interval estimation for the difference between independent proportions: comparison of
eleven methods", Statistics in Medicine 17; Fleiss, Levin and Paik 2003, "Statistical Methods for Rates and
Proportions", third edition, section 4.2; Zou and Donner 2008, see `statistics`.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from daemon.statistics import Z_95, Estimate, wilson_interval

POWER = 0.8  # of a true difference, how often it is to be found
MOST_EPISODES = 1_000_000  # a need beyond this is told as never: nobody runs a robot so long

Count = tuple[int, int]  # successes, judged episodes


def rate_difference(one: Count, other: Count, *, z: float = Z_95) -> Estimate | None:
    """Give the other rate minus the one, with the score interval; None where either has no episode.

    Raises:
        CountsInvalid: counts that cannot be.

    Source: Newcombe 1998, method 10.
    """
    return mean_difference([(one, other)], z=z)


def mean_difference(pairs: Sequence[tuple[Count, Count]], *, z: float = Z_95) -> Estimate | None:
    """Give the mean over tasks of the other rate minus the one; every task weighs the same.

    Args:
        pairs: for each task the counts of the one and of the other. A task that either was not judged at is
            left out, so that the same tasks are compared.

    Returns:
        The difference with its interval; None when no task is left.

    Source: Zou and Donner 2008 with Wilson's limits; for one task that is Newcombe 1998, method 10.
    """
    both = [(one, other) for one, other in pairs if one[1] and other[1]]
    if not both:
        return None
    below = above = total = 0.0
    for one, other in both:
        old, new = one[0] / one[1], other[0] / other[1]
        old_range, new_range = wilson_interval(*one, z=z), wilson_interval(*other, z=z)
        total += new - old
        below += (new - new_range.low) ** 2 + (old_range.high - old) ** 2
        above += (new_range.high - new) ** 2 + (old - old_range.low) ** 2
    mean, tasks = total / len(both), len(both)
    return Estimate(
        value=mean,
        low=max(-1.0, mean - math.sqrt(below) / tasks),
        high=min(1.0, mean + math.sqrt(above) / tasks),
    )


def episodes_to_tell_apart(one: float, other: float, *, z: float = Z_95, power: float = POWER) -> int | None:
    """How many episodes of each of two policies find a difference between these rates.

    Args:
        one, other: true success rates, in [0, 1].
        z: two-sided significance as a normal quantile; the default is 0.05.
        power: the share of such experiments that find it.

    Returns:
        Episodes of each; None for never: equal rates cannot be told apart, and nearly equal ones not in
        MOST_EPISODES.

    Source: Fleiss, Levin and Paik 2003, section 4.2, equation 4.14 (without continuity correction).
    """
    gap = abs(one - other)
    if gap == 0.0:
        return None
    middle = (one + other) / 2.0
    by_chance = z * math.sqrt(2.0 * middle * (1.0 - middle))
    found = NormalDist().inv_cdf(power) * math.sqrt(one * (1.0 - one) + other * (1.0 - other))
    needed = ((by_chance + found) / gap) ** 2
    return None if needed > MOST_EPISODES else math.ceil(needed)


def episodes_still_needed(one: Count, other: Count) -> int | None:
    """How many more episodes of the policy that has fewer, if the observed rates are the true ones.

    Returns:
        0 where there are enough; None for never, or where either has no episode to go by.

    Raises:
        CountsInvalid: counts that cannot be.
    """
    if rate_difference(one, other) is None:
        return None
    needed = episodes_to_tell_apart(one[0] / one[1], other[0] / other[1])
    return None if needed is None else max(0, needed - min(one[1], other[1]))
