"""The trust meter of a phase: measured on held-out episodes, kept in SQL, told as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from daemon.learning.drift import Drift, Rehearsal
from daemon.learning.gate import Compared, GateDecision
from daemon.learning.reward.judge import Judge
from daemon.learning.trust import OUTCOMES, Outcomes, Trust, measure_trust
from daemon.learning.world_model.model import WorldModel
from daemon.phases.closed_loop import acted_again
from daemon.phases.context import PhaseContext
from daemon.phases.material import Material
from storage import phase_runs, trust_reports
from storage.tables import CheckpointRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom the trust meter measures: a world model, its checkpoint, and held-out episodes imagined by it.

    Attributes:
        rehearsals: of this iteration's held-out episodes; then of those of earlier ones, if there are any.
    """

    world_model: WorldModel
    checkpoint: CheckpointRow
    rehearsals: tuple[Rehearsal, ...]


def report_trust(
    context: PhaseContext,
    subject: Subject,
    *,
    judge: Judge,
    material: Material,
    gate: GateDecision | None,
    policy: CheckpointRow | None = None,
) -> dict[str, Any]:
    """Measure a world model, keep a row of it, and give the document that REST and report share.

    Drift is told of this iteration's held-out episodes. How they end is asked of earlier ones too: a few
    episodes of each task say little of that.

    Args:
        gate: what it said of this checkpoint; None where nothing was to be decided.
        policy: it acted on the robot and acts again in imagination, see `closed_loop.py`; None: nobody did.

    Raises:
        LeaseLost: another worker has this phase run by now; no row was kept.
    """
    trust = measure_trust(
        subject.world_model,
        judge,
        subject.rehearsals[0],
        older=subject.rehearsals[1:],
        threshold=context.spec.trust.max_latent_error,
        seed=context.spec.seed,
    )
    rows = [*material.held_out_older.rows, *material.held_out.rows]
    document = trust_document(trust, tasks={row.instruction: row.task_id for row in rows})
    if policy is not None:
        again = acted_again(context, subject.world_model, policy=policy, judge=judge, material=material)
        document["closed_loop"] = closed_loop_document(again)
    every = summed(trust.outcomes.values())
    new = trust_reports.NewTrustReport(
        checkpoint_id=subject.checkpoint.id,
        iteration_id=context.iteration_id,
        verdict=verdict_of(gate),
        episodes=len(material.held_out),
        horizon=trust.horizon,
        agreement=every.agreement,
        optimism=every.optimism,
        sensitivity=document["action_sensitivity"],
        report={**document, "gate": None if gate is None else gate_document(gate)},
    )
    with context.database.write() as session:
        phase_runs.require_held(session, context.phase_run_id, fence=context.fence)
        trust_reports.save(session, new, now=context.now())
    return document


def trust_document(trust: Trust, *, tasks: Mapping[str, str]) -> dict[str, Any]:
    """The report as JSON: curves by step, outcomes by task, and what follows from them.

    Args:
        tasks: task id of each instruction.
    """
    every = summed(trust.outcomes.values())
    return {
        "horizon": trust.horizon,
        "max_latent_error": trust.threshold,
        "action_sensitivity": None if trust.sensitivity is None else finite(trust.sensitivity),
        "outcomes": {tasks[sentence]: outcome_document(own) for sentence, own in trust.outcomes.items()},
        "overall": outcome_document(every),
        "drift": drift_document(trust.drift),
        "shuffled_latents": {str(step): finite(error) for step, error in trust.shuffled.items()},
    }


def closed_loop_document(again: Mapping[str, Outcomes]) -> dict[str, Any]:
    """How the policy did in imagination from where it had acted, by task and in all."""
    tasks = {task: outcome_document(own) for task, own in again.items()}
    return {"tasks": tasks, "overall": outcome_document(summed(again.values()))}


def outcome_document(outcomes: Outcomes) -> dict[str, Any]:
    return {**asdict(outcomes), "agreement": outcomes.agreement, "optimism": outcomes.optimism}


def finite(value: float) -> float | None:
    """The number, or None where imagination ran away: JSON has no infinity."""
    return value if math.isfinite(value) else None


def drift_document(drift: Drift) -> dict[str, dict[str, float | None]]:
    """One curve per measure: {"pixels": {"1": …}, "psnr": …}."""
    return {
        name: {str(step): finite(value) for step, value in curve.items()}
        for name, curve in asdict(drift).items()
        if isinstance(curve, dict)
    }


def summed(outcomes: Iterable[Outcomes]) -> Outcomes:
    """Every task together."""
    every = [asdict(own) for own in outcomes]
    return Outcomes(**{name: sum(own[name] for own in every) for name in OUTCOMES})


def gate_document(gate: GateDecision) -> dict[str, Any]:
    """What the gate compared and decided."""

    def told(errors: Compared | None) -> dict[str, float | int | None] | None:
        if errors is None:
            return None
        before, after = (finite(mean) for mean in errors.means)
        return {"before": before, "after": after, "episodes": len(errors.before), "chance": errors.chance}

    return {
        "accepted": gate.accepted,
        "reasons": list(gate.reasons),
        "fresh": told(gate.fresh),
        "older": told(gate.older),
    }


def verdict_of(gate: GateDecision | None) -> str:
    """What the row says of the checkpoint."""
    if gate is None:
        return trust_reports.MEASURED
    return trust_reports.ACCEPTED if gate.accepted else trust_reports.REJECTED
