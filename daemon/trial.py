"""Candidate against champion on the real robot: when is one better, how sure is that, when to stop.

A *trial* compares two policies by their real successes, task by task. Each success rate has a beta
posterior under Jeffreys' prior, Beta(1/2 + successes, 1/2 + failures). What is asked is the mean over tasks
of candidate minus champion; its posterior, a sum of independent betas, is taken as normal with their exact
mean and variance. `decide` may be asked after every episode: early stops want much, the end of the budget
settles for less, and nobody is judged by a handful of episodes, nor by some of the tasks only. What that
costs in wrong decisions is simulated (`benchmarks/trial_errors.py`).

An undecided trial may be carried on with another budget. Each end of a budget is another chance to settle for
a candidate that is no better, so what settling allows is shared out among them (`Thresholds.shared`).

Source: Brown, Cai and DasGupta 2001 (DOI 10.1214/ss/1009213286), section 4.3, for Jeffreys' prior;
Dunn 1961 (DOI 10.1080/01621459.1961.10482090) for sharing a chance of error out (Bonferroni's inequality).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

from daemon.errors import CountsInvalid

PRIOR = 0.5  # of success and of failure each
FEWEST = 5  # judged episodes of each policy and task before anything is decided, if as many were planned
WORSE_TASK = 0.95  # sure to be worse at one task: not promoted, whatever the others say

Decision = Literal["promoted", "rejected", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Successes among judged episodes.

    Raises:
        CountsInvalid: negative, or more successes than episodes.
    """

    successes: int
    episodes: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.episodes:
            raise CountsInvalid(successes=self.successes, episodes=self.episodes)

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and variance of the posterior success rate."""
        a, b = PRIOR + self.successes, PRIOR + self.episodes - self.successes
        return a / (a + b), a * b / ((a + b) ** 2 * (a + b + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Probabilities of being better that decide.

    Attributes:
        promote, reject: stop early at or beyond these.
        settle_promote, settle_reject: once the budget is spent, these suffice; between them nobody knows.
    """

    promote: float = 0.99
    reject: float = 0.01
    settle_promote: float = 0.9
    settle_reject: float = 0.5

    def shared(self, *, carries: int) -> Thresholds:
        """Those of a trial that may be carried on so often: settling for promotion takes more at every end.

        Early stops stay as they are, and so does what settles a rejection: to try a bad candidate no longer
        errs on the safe side.
        """
        return replace(self, settle_promote=1 - (1 - self.settle_promote) / (1 + carries))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Real successes of both policies by task."""

    champion: Mapping[str, Count]
    candidate: Mapping[str, Count]

    @property
    def tasks(self) -> list[str]:
        """Tasks that both were tried at."""
        return sorted(self.champion.keys() & self.candidate.keys())

    def better(self) -> float:
        """Probability that the candidate has the higher mean success over tasks; 1/2 without evidence."""
        return _above_zero([self._difference(task) for task in self.tasks])

    def better_at(self, task: str) -> float:
        """The same for one task."""
        return _above_zero([self._difference(task)])

    def fewest(self, tasks: Iterable[str]) -> int:
        """Episodes of the policy and task that has the fewest, of these tasks; 0 without any."""
        pairs = [(side, task) for side in (self.champion, self.candidate) for task in tasks]
        return min((side[task].episodes if task in side else 0 for side, task in pairs), default=0)

    def of_at_least(self, episodes: int) -> Evidence:
        """Only the tasks at which both were judged so often."""
        kept = [task for task in self.tasks if self.fewest([task]) >= episodes]
        champion, candidate = (
            {task: side[task] for task in kept} for side in (self.champion, self.candidate)
        )
        return Evidence(champion=champion, candidate=candidate)

    def _difference(self, task: str) -> tuple[float, float]:
        (old, old_spread), (new, new_spread) = self.champion[task].moments, self.candidate[task].moments
        return new - old, old_spread + new_spread


def decide(
    evidence: Evidence, thresholds: Thresholds, *, planned: Mapping[str, int], spent: bool
) -> Decision | None:
    """What is to become of the candidate.

    Args:
        planned: by task, how many episodes each policy was to have. Where few of them are judged yet, because
            people have not come to it or a robot was away, nobody is better and nobody worse.
        spent: the budget of episodes is used up, so that something has to be decided.

    Returns:
        The decision, or None: go on.
    """
    fewest = evidence.fewest(planned)
    if fewest < min((FEWEST, *planned.values())) or not evidence.tasks:
        return "undecided" if spent else None
    better = evidence.better()
    early = fewest >= FEWEST
    worse_somewhere = any(evidence.better_at(task) <= 1 - WORSE_TASK for task in evidence.tasks)
    if (early and better >= thresholds.promote) or (spent and better >= thresholds.settle_promote):
        if not worse_somewhere:
            return "promoted"
        return "rejected" if spent else None
    if (early and better <= thresholds.reject) or (spent and better <= thresholds.settle_reject):
        return "rejected"
    return "undecided" if spent else None


def carried_text(carried: Mapping[str, Any]) -> str:
    """What a trial's record has under `carried`: `carried on from iteration 3, 48 of 96 episodes so far`."""
    return (
        f"carried on from iteration {carried['from']}, "
        f"{carried['episodes']} of {carried['of']} episodes so far"
    )


def _above_zero(differences: list[tuple[float, float]]) -> float:
    mean = sum(mean for mean, _ in differences)
    spread = math.sqrt(sum(variance for _, variance in differences))
    return NormalDist().cdf(mean / spread) if spread else 0.5
