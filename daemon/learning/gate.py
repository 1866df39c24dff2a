"""Whether a finetuned world model may replace the one it came from: a question of numbers alone.

It must imagine held-out episodes of this iteration better, and those of earlier iterations not worse than by
a stated share. Both models imagine the same episodes with the same noise, so what differs is the model. The
number compared is the latent error, averaged over all steps that were measured.
"""

import math
from dataclasses import dataclass

from daemon.learning.drift import Drift


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Mean latent error before and after finetuning on some episodes."""

    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """Accepted or not, and why, in words and numbers."""

    accepted: bool
    reasons: tuple[str, ...]
    fresh: Compared
    older: Compared | None


def decide(fresh: Compared, older: Compared | None, *, older_margin: float) -> GateDecision:
    """Accept what is better on fresh episodes and not worse than the margin on older ones.

    Args:
        older_margin: share of the error before by which it may rise.
    """
    better = math.isfinite(fresh.after) and fresh.after < fresh.before
    reasons = [f"{_told(fresh)} on held-out fresh episodes: {'better' if better else 'not better'}"]
    kept = True
    if older is not None:
        kept = math.isfinite(older.after) and older.after <= older.before * (1 + older_margin)
        side = "within" if kept else "beyond"
        reasons.append(f"{_told(older)} on held-out older episodes: {side} the margin of {older_margin:.0%}")
    return GateDecision(accepted=better and kept, reasons=tuple(reasons), fresh=fresh, older=older)


def compared(before: Drift, after: Drift) -> Compared:
    """The numbers that the gate looks at."""
    return Compared(before=mean_error(before), after=mean_error(after))


def mean_error(drift: Drift) -> float:
    """Latent error, mean over the measured steps."""
    return sum(drift.latents.values()) / len(drift.latents)


def _told(errors: Compared) -> str:
    return f"latent error {errors.before:.4f} -> {errors.after:.4f}"
