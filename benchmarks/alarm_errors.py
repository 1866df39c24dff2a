"""How often the alarm of a drifting success rate is false, and how late a true one comes: simulated, seeded.

    python -m benchmarks.alarm_errors --streams 100 --before 60

A false alarm is one in a stream of episodes whose rate never changes. The baseline for the delay is somebody
who knows both rates: the least mean delay of any alarm with as few false ones is about log(episodes between
false alarms) / KL(after, before) (Lorden 1971). The ratio is ours over that.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from daemon.change_point import LONGEST, THRESHOLD, changes

RATES = (0.1, 0.3, 0.5, 0.7, 0.9)
DROPS = (0.2, 0.4)
WATCHED = 300  # episodes after a change; one that is not noticed by then counts as missed


def false_alarms(rate: float, *, streams: int, threshold: float, chance: np.random.Generator) -> float:
    """Alarms per 1,000 episodes while nothing changes."""
    found = sum(
        len(changes(list(chance.random(LONGEST) < rate), threshold=threshold)) for _ in range(streams)
    )
    return 1000 * found / (streams * LONGEST)


def delays(
    rates: tuple[float, float], *, before: int, streams: int, threshold: float, chance: np.random.Generator
) -> list[int | None]:
    """Episodes after the change until the first alarm since; None where there was none."""
    found: list[int | None] = []
    for _ in range(streams):
        true = np.repeat(rates, (before, WATCHED))
        noticed = [
            change.noticed + 1 - before
            for change in changes(list(chance.random(len(true)) < true), threshold=threshold)
            if change.noticed >= before and change.fell
        ]
        found.append(noticed[0] if noticed else None)
    return found


def least_delay(rates: tuple[float, float], *, per_thousand: float) -> float:
    """Lorden's bound, for one who knows both rates and has as many false alarms."""
    old, new = (min(max(rate, 1e-6), 1 - 1e-6) for rate in rates)
    apart = new * math.log(new / old) + (1 - new) * math.log((1 - new) / (1 - old))
    return math.log(1000 / max(per_thousand, 1e-3)) / apart


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--streams", type=int, default=100)
    options.add_argument("--before", type=int, default=60, help="episodes before the change")
    options.add_argument("--threshold", type=float, default=THRESHOLD)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    chance = np.random.default_rng(asked.seed)
    print(f"threshold {asked.threshold}, {asked.streams} streams each, seed {asked.seed}")
    print("| rate | false alarms per 1,000 episodes |\n|---|---|")
    rates: dict[float, float] = {}
    for rate in RATES:
        rates[rate] = false_alarms(rate, streams=asked.streams, threshold=asked.threshold, chance=chance)
        print(f"| {rate} | {rates[rate]:.2f} |")
    print(f"\nafter {asked.before} episodes the rate falls; missed: not noticed in {WATCHED} episodes")
    print("| from | to | median delay | mean | missed | over the least |\n|---|---|---|---|---|---|")
    for rate in RATES:
        for drop in DROPS:
            if rate < drop:
                continue
            pair = (rate, round(rate - drop, 3))
            ends = delays(
                pair, before=asked.before, streams=asked.streams, threshold=asked.threshold, chance=chance
            )
            seen = sorted(end for end in ends if end is not None)
            if not seen:
                print(f"| {pair[0]} | {pair[1]} | | | 1.00 | |")
                continue
            missed, mean = 1 - len(seen) / len(ends), sum(seen) / len(seen)
            bound = least_delay(pair, per_thousand=rates[rate])
            median = seen[len(seen) // 2]
            print(f"| {pair[0]} | {pair[1]} | {median} | {mean:.0f} | {missed:.2f} | {mean / bound:.1f} x |")


if __name__ == "__main__":
    main()
