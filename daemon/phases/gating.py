"""The gate of a phase: the candidate and the model it came from imagine the same held-out episodes."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.learning.drift import Drift, Rehearsal, rehearse
from daemon.learning.gate import Compared, GateDecision, compared, decide
from daemon.learning.world_model.model import WorldModel
from daemon.phases.context import PhaseContext
from daemon.phases.material import Episodes, Material
from daemon.phases.trusting import finite

HORIZONS = (1, 10)  # steps at which the held-out error is told; the last one is the headline


@dataclass(frozen=True, slots=True, kw_only=True)
class Faced:
    """What the gate said, and what it saw: this iteration's held-out episodes imagined by both models.

    Attributes:
        error: the held-out error as it is told everywhere.
    """

    decision: GateDecision
    error: dict[str, object]
    before: Rehearsal
    after: Rehearsal


def face_the_gate(
    context: PhaseContext, material: Material, *, before: WorldModel, after: WorldModel, begun: float
) -> Faced:
    """Both imagine the held-out episodes; the gate decides.

    Args:
        begun: share of the phase that is done when this starts, for the progress bar.
    """

    def rehearsed(world_model: WorldModel, name: str, episodes: Episodes) -> Rehearsal:
        context.report(begun, f"{name} world model, imagining {len(episodes)} held-out episodes")
        return rehearse(world_model, episodes.clips, steps=context.spec.steps, seed=context.spec.seed)

    old, new = (rehearsed(m, n, material.held_out) for m, n in ((before, "old"), (after, "new")))
    older: Compared | None = None
    if len(material.held_out_older):
        older = compared(
            rehearsed(before, "old", material.held_out_older).drift,
            rehearsed(after, "new", material.held_out_older).drift,
        )
    decision = decide(compared(old.drift, new.drift), older, older_margin=context.spec.trust.older_margin)
    return Faced(decision=decision, error=held_out_record(old.drift, new.drift), before=old, after=new)


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
