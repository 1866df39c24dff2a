"""Whether a finetuned world model may replace the current one: a question of numbers alone.

It must imagine held-out episodes of this iteration better, by more than chance would have it, and those of
earlier iterations not worse than by a stated share. Both models imagine the same episodes with the same
noise, so what differs is the model, and episodes are compared in pairs. The number compared is the latent
error of an episode, mean over all of its steps that were measured, and it is compared by its ratio: errors
of episodes differ tenfold, and a difference would be that of the worst few.

Source: Student 1908 (DOI 10.2307/2331554) for the paired test, one-sided, here of logarithms.
"""

import math
from dataclasses import dataclass

from scipy.special import stdtr

from daemon.learning.drift import Drift

LEAST_ERROR = 1e-12  # smaller ones count as this: two perfect episodes are equal
MOST_CHANCE = 0.05  # a candidate that only seems better is accepted at most so often


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Latent errors of the same episodes, in the same order, before and after finetuning."""

    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def means(self) -> tuple[float, float]:
        return sum(self.before) / len(self.before), sum(self.after) / len(self.after)

    @property
    def ratio(self) -> float:
        """Error after over error before, geometric mean over episodes; not finite where an error is not."""
        gains = self._gains()
        return math.exp(-sum(gains) / len(gains))

    @property
    def chance(self) -> float | None:
        """Probability of an improvement at least as clear between models that are equally good.

        None where nothing can be said: a single episode, or errors that are not finite.
        """
        gains = self._gains()
        count, mean = len(gains), sum(gains) / len(gains)
        if count < 2 or not math.isfinite(mean):
            return None
        deviation = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / (count - 1))
        if deviation == 0:
            return 0.0 if mean > 0 else 1.0
        return float(stdtr(count - 1, -mean / (deviation / math.sqrt(count))))

    def _gains(self) -> list[float]:
        """Logarithm of each episode's error before over that after."""
        return [_log(old) - _log(new) for old, new in zip(self.before, self.after, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """Accepted or not, and why, in words and numbers."""

    accepted: bool
    reasons: tuple[str, ...]
    fresh: Compared
    older: Compared | None


def decide(fresh: Compared, older: Compared | None, *, older_margin: float) -> GateDecision:
    """Accept what is surely better on fresh episodes and not worse than the margin on older ones.

    Args:
        older_margin: share of an episode's error before by which it may rise, on the geometric mean.
    """
    chance = fresh.chance
    better = chance is not None and chance <= MOST_CHANCE
    reasons = [f"{_told(fresh)} on held-out fresh episodes: {_verdict(chance, better=better)}"]
    kept = True
    if older is not None:
        kept = older.ratio <= 1 + older_margin  # never true of what is not finite
        side = "within" if kept else "beyond"
        reasons.append(f"{_told(older)} on held-out older episodes: {side} the margin of {older_margin:.0%}")
    return GateDecision(accepted=better and kept, reasons=tuple(reasons), fresh=fresh, older=older)


def compared(before: Drift, after: Drift) -> Compared:
    """The numbers that the gate looks at, of two models that imagined the same episodes."""
    return Compared(before=before.latents_by_episode, after=after.latents_by_episode)


def _verdict(chance: float | None, *, better: bool) -> str:
    if chance is None:
        return "not shown to be better, for which it takes two episodes and finite errors"
    said = "better" if better else "not shown to be better"
    return f"{said} (p {chance:.2g}, at most {MOST_CHANCE:.2g} is asked)"


def _told(errors: Compared) -> str:
    before, after = errors.means
    return f"latent error {before:.4f} -> {after:.4f}, {errors.ratio:.2f} times by episode"


def _log(error: float) -> float:
    return math.log(max(error, LEAST_ERROR)) if math.isfinite(error) else math.nan
