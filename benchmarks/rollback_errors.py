"""How often a champion is rolled back to the one before it, and how soon: simulated, asked once an iteration.

    python -m benchmarks.rollback_errors --episodes 24 --reigns 2000

The one before was tried twice, in its own trial and in the one that it lost; the champion's episodes after
that trial come in with every iteration. That it lost by bad luck in part is left out: with it rollbacks are
rarer than here. Success rates are those of `benchmarks.trial_errors`; the champion's are shifted by as much
on every task, within [0, 1]. The baseline is a single look, after the first iteration.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from benchmarks.trial_errors import RATES, evidence_of
from daemon.trial import FEWEST, Thresholds

SHIFTS = (-0.4, -0.25, -0.15, -0.05, 0.0, 0.05)
LOOKS = (1, 3, 10)


def one_reign(
    before: Sequence[float],
    champion: Sequence[float],
    *,
    episodes: int,
    iterations: int,
    chance: np.random.Generator,
) -> int | None:
    """The iteration in which the champion is rolled back, from 1; None where it stays.

    Args:
        before, champion: success rates by task.
        episodes: of each task in an iteration.
    """
    tried, won = (np.zeros((2, len(before)), dtype=int) for _ in range(2))  # the champion first
    tried[1] = 2 * episodes
    won[1] = chance.binomial(2 * episodes, before)
    for iteration in range(1, iterations + 1):
        tried[0] += episodes
        won[0] += chance.binomial(episodes, champion)
        evidence = evidence_of(won, tried).of_at_least(FEWEST)
        if evidence.tasks and evidence.better() >= Thresholds().promote:
            return iteration
    return None


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--episodes", type=int, default=24, help="of each task in an iteration")
    options.add_argument("--reigns", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    chance = np.random.default_rng(asked.seed)
    print(f"{asked.reigns} reigns of {len(RATES)} tasks, {asked.episodes} episodes of each in an iteration")
    print(
        "| champion better by | "
        + " | ".join(f"rolled back within {most}" for most in LOOKS)
        + " | to one look |"
    )
    print("|---" * (2 + len(LOOKS)) + "|")
    for shift in SHIFTS:
        rates = [min(1.0, max(0.0, rate + shift)) for rate in RATES]
        ends = [
            one_reign(RATES, rates, episodes=asked.episodes, iterations=LOOKS[-1], chance=chance)
            for _ in range(asked.reigns)
        ]
        shares = [sum(end is not None and end <= most for end in ends) / asked.reigns for most in LOOKS]
        actual = sum(rates) / len(rates) - sum(RATES) / len(RATES)
        ratio = f"{shares[-1] / shares[0]:.1f} x" if shares[0] else "–"
        print(f"| {actual:+.3f} | {' | '.join(f'{share:.3f}' for share in shares)} | {ratio} |")


if __name__ == "__main__":
    main()
