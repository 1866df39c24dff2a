"""How often a trial of candidate against champion decides what: simulated, pairs of episodes one by one.

    python -m benchmarks.trial_errors --episodes 24 --trials 2000

The baseline is the same budget without early stops: the mean number of episodes saved is the ratio. Success
rates are those of the nano base on a cell that nothing was trained on; the candidate's are shifted by as much
on every task, within [0, 1].
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

import numpy as np

from daemon.trial import Count, Decision, Evidence, Thresholds, decide

RATES = (0.9, 0.95, 0.4, 0.4)  # open, close, sink, basket
SHIFTS = (-0.15, -0.05, 0.0, 0.05, 0.1, 0.15, 0.25)


def one_trial(
    old: Sequence[float], new: Sequence[float], *, budget: int, chance: np.random.Generator
) -> tuple[Decision, int]:
    """One trial to its end: what was decided, after how many episodes of each policy and task."""
    successes = np.zeros((2, len(old)), dtype=int)
    for episodes in range(1, budget + 1):
        successes += chance.random((2, len(old))) < np.array([old, new])
        sides = [
            {str(task): Count(successes=int(won), episodes=episodes) for task, won in enumerate(side)}
            for side in successes
        ]
        found = decide(
            Evidence(champion=sides[0], candidate=sides[1]), Thresholds(), spent=episodes == budget
        )
        if found is not None:
            return found, episodes
    raise AssertionError("a spent budget decides")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--episodes", type=int, default=24, help="budget of each policy and task")
    options.add_argument("--trials", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    chance = np.random.default_rng(asked.seed)
    print(f"{asked.trials} trials of {len(RATES)} tasks, at most {asked.episodes} of each policy and task")
    print("| candidate better by | promoted | rejected | undecided | episodes of each, mean | saved |")
    print("|---|---|---|---|---|---|")
    for shift in SHIFTS:
        new = [min(1.0, max(0.0, rate + shift)) for rate in RATES]
        ends = [one_trial(RATES, new, budget=asked.episodes, chance=chance) for _ in range(asked.trials)]
        share = {name: count / asked.trials for name, count in Counter(end for end, _ in ends).items()}
        mean = sum(used for _, used in ends) / asked.trials
        actual = sum(new) / len(new) - sum(RATES) / len(RATES)
        shown = (f"{share.get(name, 0):.3f}" for name in ("promoted", "rejected", "undecided"))
        print(f"| {actual:+.3f} | {' | '.join(shown)} | {mean:.1f} | {asked.episodes / mean:.2f} x |")


if __name__ == "__main__":
    main()
