"""The gate of a phase: the candidate and the model it came from imagine the same held-out episodes."""

from __future__ import annotations

from daemon.learning.drift import Drift, measure_drift
from daemon.learning.gate import Compared, GateDecision, compared, decide
from daemon.learning.world_model.model import WorldModel
from daemon.phases.context import PhaseContext
from daemon.phases.material import Episodes, Material
from daemon.phases.trusting import finite

HORIZONS = (1, 10)  # steps at which the held-out error is told; the last one is the headline


def face_the_gate(
    context: PhaseContext, material: Material, *, before: WorldModel, after: WorldModel
) -> tuple[dict[str, object], GateDecision]:
    """The held-out error as it is told everywhere, and what the gate says."""
    fresh = [drift(context, model, material.held_out) for model in (before, after)]
    older: Compared | None = None
    if len(material.held_out_older):
        older = compared(*(drift(context, model, material.held_out_older) for model in (before, after)))
    margin = context.spec.trust.older_margin
    return held_out_record(fresh[0], fresh[1]), decide(compared(*fresh), older, older_margin=margin)


def drift(context: PhaseContext, world_model: WorldModel, episodes: Episodes) -> Drift:
    """Drift at every step, up to where the longest episode ends."""
    longest = min(context.spec.steps, max(clip.steps for clip in episodes.clips))
    return measure_drift(world_model, episodes.clips, horizons=range(1, longest + 1), seed=context.spec.seed)


def held_out_record(before: Drift, after: Drift) -> dict[str, object]:
    """The error as it is told everywhere: mean squared, pixels in [0, 1], at the longest horizon."""
    reached = [horizon for horizon in HORIZONS if horizon in before.pixels] or [max(before.pixels)]
    headline = reached[-1]
    return {
        "before": before.pixels[headline],
        "after": after.pixels[headline],
        "by_horizon": {
            str(horizon): {
                "before": before.pixels[horizon],
                "after": after.pixels[horizon],
                "still": before.still[horizon],
                "latents_before": finite(before.latents[horizon]),
                "latents_after": finite(after.latents[horizon]),
            }
            for horizon in reached
        },
        "unit": f"mean squared error of pixels in [0, 1], {headline} steps after a real first frame",
    }
