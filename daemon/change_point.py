"""Has the success rate of something that did not change, changed? Outcomes in their order in, alarms out.

At every episode, each split of the episodes so far into before and after is asked how much better two rates
explain them than one; the logarithm of that ratio, at its best split, is compared with a threshold. Neither
rate has to be known beforehand. What the threshold costs, in false alarms and in delay, is simulated by
`benchmarks/alarm_errors.py`.

Source: Siegmund and Venkatraman 1995, "Using the generalized likelihood ratio statistic for sequential
detection of a change-point", Annals of Statistics 23; for Bernoulli outcomes with both rates unknown, Besson
and
Kaufmann 2019 (arXiv:1902.01575), section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 8.0  # natural logarithm of a likelihood ratio; see benchmarks/alarm_errors.py
FEWEST = 5  # episodes on either side of a change
LONGEST = 500  # the newest episodes that are looked at; the work grows with the square

_F = np.concatenate([[0.0], np.arange(1, LONGEST + 1) * np.log(np.arange(1, LONGEST + 1))])  # x log x


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of the rate, and when it was noticed.

    Attributes:
        begin: first episode that is told of; what was before the change before this one is not.
        at: first episode after the change, as it looked when it was noticed.
        noticed: the episode by which it was noticed.
        statistic: the logarithm of the likelihood ratio then.
        before, after: successes and episodes in [begin, at) and [at, noticed].
    """

    begin: int
    at: int
    noticed: int
    statistic: float
    before: tuple[int, int]
    after: tuple[int, int]

    @property
    def fell(self) -> bool:
        return self.after[0] * self.before[1] < self.before[0] * self.after[1]


def changes(outcomes: Sequence[bool], *, threshold: float = THRESHOLD) -> list[Change]:
    """Every change that raised an alarm, in order; after each, the episodes that follow are looked at anew.

    Args:
        outcomes: successes in the order of time; of more than LONGEST the newest are looked at.
        threshold: the statistic that raises an alarm.
    """
    skipped = max(0, len(outcomes) - LONGEST)
    won = np.asarray(outcomes[skipped:], dtype=np.int64)
    found: list[Change] = []
    begin = 0
    while (change := _first(won[begin:], threshold, offset=begin + skipped)) is not None:
        found.append(change)
        begin = change.noticed + 1 - skipped  # what raised an alarm was chosen for being unlike the rest
    return found


def _first(won: NDArray[np.int64], threshold: float, *, offset: int) -> Change | None:
    """The first alarm in these outcomes."""
    if len(won) < 2 * FEWEST:
        return None
    ratios = log_ratios(won)  # [episodes seen, episodes before the split]
    alarms = np.flatnonzero(ratios.max(axis=1) >= threshold)
    if not len(alarms):
        return None
    noticed = int(alarms[0])
    split = int(ratios[noticed].argmax())
    return Change(
        begin=offset,
        at=offset + split,
        noticed=offset + noticed,
        statistic=float(ratios[noticed, split]),
        before=(int(won[:split].sum()), split),
        after=(int(won[split : noticed + 1].sum()), noticed + 1 - split),
    )


def log_ratios(won: NDArray[np.int64]) -> NDArray[np.float64]:
    """The statistic of every split at every moment.

    Args:
        won: successes, 0 or 1, [T]; T is at most LONGEST.

    Returns:
        [T, T]: row n is the moment after episode n, column k the split into the first k and the rest; minus
        infinity where a side has fewer than FEWEST episodes.

    Source: Besson and Kaufmann 2019, equation 3, with k·kl written out as sums of x log x.
    """
    sums = np.concatenate([[0], np.cumsum(won)])
    seen = np.arange(1, len(won) + 1)[:, None]  # [T, 1]
    before = np.arange(len(won))[None, :]  # [1, T]
    after = np.clip(seen - before, 0, None)
    won_all, won_before = sums[1:][:, None], sums[:-1][None, :]
    won_after = np.clip(won_all - won_before, 0, None)
    ratios = _likelihood(won_before, before) + _likelihood(won_after, after) - _likelihood(won_all, seen)
    enough = (before >= FEWEST) & (seen - before >= FEWEST)
    return np.where(enough, ratios, -np.inf)


def _likelihood(won: NDArray[np.int64], seen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logarithm of the likelihood at the best rate; any number above the diagonal, where it means nothing."""
    lost: NDArray[np.int64] = np.clip(seen - won, 0, None)
    best: NDArray[np.float64] = _F[won] + _F[lost] - _F[seen]
    return best
