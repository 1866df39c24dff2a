"""How often a trial of candidate against champion decides what: simulated, and looked at after every episode.

    python -m benchmarks.trial_errors --episodes 24 --trials 2000 --carries 1

The baseline is the same budget without early stops: the mean number of episodes saved is the ratio. Success
rates are those of the nano base on a cell that nothing was trained on; the candidate's are shifted by as much
on every task, within [0, 1]. The first rows are of trials that end with their iteration; those after them of
trials that go on in the next iteration while they are undecided, at most so often, each time with as many
episodes again.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from daemon.trial import Count, Decision, Evidence, Thresholds, decide

RATES = (0.9, 0.95, 0.4, 0.4)  # open, close, sink, basket
SHIFTS = (-0.15, -0.05, 0.0, 0.05, 0.1, 0.15, 0.25)


def one_trial(
    old: Sequence[float],
    new: Sequence[float],
    *,
    budget: int,
    chance: np.random.Generator,
    carries: int = 0,
) -> tuple[Decision, int]:
    """One trial to its end: what was decided, after how many episodes of each policy and task.

    Args:
        budget: episodes of each policy and task in an iteration.
        carries: how often it goes on in another iteration where it is undecided.
    """
    thresholds = Thresholds().shared(carries=carries)
    planned = {str(task): budget for task in range(len(old))}
    tried, won = (np.zeros((2, len(old)), dtype=int) for _ in range(2))
    for episodes in range(1, budget * (1 + carries) + 1):
        slots = [(arm, task) for task in range(len(old)) for arm in chance.permutation(2).tolist()]
        for number, (arm, task) in enumerate(slots, start=1):
            tried[arm, task] += 1
            won[arm, task] += chance.random() < (old, new)[arm][task]
            spent = episodes % budget == 0 and number == len(slots)
            found = decide(evidence_of(won, tried), thresholds, planned=planned, spent=spent)
            if found not in {None, "undecided"}:
                return found, episodes
    return "undecided", budget * (1 + carries)


def evidence_of(won: NDArray[np.int_], tried: NDArray[np.int_]) -> Evidence:
    """Successes and episodes [2, tasks], champion first; what was not tried yet is not there."""
    champion, candidate = (
        {
            str(task): Count(successes=int(k), episodes=int(n))
            for task, (k, n) in enumerate(zip(*side, strict=True))
            if n
        }
        for side in zip(won, tried, strict=True)
    )
    return Evidence(champion=champion, candidate=candidate)


def print_rows(*, budget: int, trials: int, carries: int, chance: np.random.Generator) -> None:
    """A row for every shift."""
    print("| candidate better by | promoted | rejected | undecided | episodes of each, mean | saved |")
    print("|---|---|---|---|---|---|")
    whole = budget * (1 + carries)
    for shift in SHIFTS:
        new = [min(1.0, max(0.0, rate + shift)) for rate in RATES]
        ends = [one_trial(RATES, new, budget=budget, carries=carries, chance=chance) for _ in range(trials)]
        share = {name: count / trials for name, count in Counter(end for end, _ in ends).items()}
        mean = sum(used for _, used in ends) / trials
        actual = sum(new) / len(new) - sum(RATES) / len(RATES)
        shown = (f"{share.get(name, 0):.3f}" for name in ("promoted", "rejected", "undecided"))
        print(f"| {actual:+.3f} | {' | '.join(shown)} | {mean:.1f} | {whole / mean:.2f} x |")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--episodes", type=int, default=24, help="budget of each policy and task")
    options.add_argument("--trials", type=int, default=2000)
    options.add_argument("--carries", type=int, default=1, help="of undecided trials; 0 prints no such rows")
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    chance = np.random.default_rng(asked.seed)
    print(f"{asked.trials} trials of {len(RATES)} tasks, at most {asked.episodes} of each policy and task")
    print_rows(budget=asked.episodes, trials=asked.trials, carries=0, chance=chance)
    if asked.carries:
        print(f"\ncarried on while undecided, at most {asked.carries} times, {asked.episodes} of each again")
        print_rows(budget=asked.episodes, trials=asked.trials, carries=asked.carries, chance=chance)


if __name__ == "__main__":
    main()
