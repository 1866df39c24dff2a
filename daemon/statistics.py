"""What a count of successes says about the success rate. Plain numbers in and out.

Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
"""

import math
from dataclasses import dataclass

from daemon.errors import CountsInvalid

Z_95 = 1.959964  # two-sided 95 % quantile of the standard normal


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A range of success rates, both ends in [0, 1]."""

    low: float
    high: float


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
    if not 0 <= successes <= episodes:
        raise CountsInvalid(successes=successes, episodes=episodes)
    if episodes == 0:
        return Interval(low=0.0, high=1.0)
    rate = successes / episodes
    shrink = 1.0 + z * z / episodes
    centre = (rate + z * z / (2 * episodes)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / episodes + z * z / (4 * episodes * episodes))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == episodes else min(1.0, centre + half)
    return Interval(low=low, high=high)
