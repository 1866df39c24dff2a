"""The gate of a phase: the candidate and the current model imagine the same held-out episodes."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.learning.drift import Drift, Rehearsal, rehearse
from daemon.learning.gate import GateDecision, compared, decide
from daemon.learning.world_model.model import WorldModel
from daemon.phases.context import PhaseContext
from daemon.phases.material import Episodes, Material
from daemon.phases.trusting import finite

HORIZONS = (1, 5, 10)  # steps at which the held-out error is told, if imagined; the last is the headline


@dataclass(frozen=True, slots=True, kw_only=True)
class Faced:
    """What the gate said, and what it saw: held-out episodes imagined by both models.

    Attributes:
        error: the held-out error as it is told everywhere.
        before, after: those of this iteration, and of earlier ones if there are any.
    """

    decision: GateDecision
    error: dict[str, object]
    before: tuple[Rehearsal, ...]
    after: tuple[Rehearsal, ...]


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

    parts = [part for part in (material.held_out, material.held_out_older) if len(part)]
    old, new = (
        tuple(rehearsed(world_model, name, part) for part in parts)
        for world_model, name in ((before, "old"), (after, "new"))
    )
    fresh, *older = (compared(one.drift, other.drift) for one, other in zip(old, new, strict=True))
    margin = context.spec.trust.older_margin
    decision = decide(fresh, older[0] if older else None, older_margin=margin)
    return Faced(decision=decision, error=held_out_record(old[0].drift, new[0].drift), before=old, after=new)


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
