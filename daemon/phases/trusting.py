"""The trust meter of a phase: measured on held-out episodes, kept in SQL, told as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from daemon.learning.drift import Drift
from daemon.learning.gate import GateDecision
from daemon.learning.reward.judge import Judge
from daemon.learning.trust import OUTCOMES, Outcomes, Trust, TrustQuestion, measure_trust
from daemon.learning.world_model.model import WorldModel
from daemon.phases.context import PhaseContext
from daemon.phases.material import Episodes
from storage import phase_runs, trust_reports
from storage.tables import CheckpointRow


def trust_of(
    context: PhaseContext, world_model: WorldModel, *, judge: Judge, held_out: Episodes
) -> tuple[Trust, dict[str, Any]]:
    """Measure, and write it as the JSON document that SQL, REST and the report share."""
    question = TrustQuestion(
        steps=context.spec.steps, threshold=context.spec.trust.max_latent_error, seed=context.spec.seed
    )
    trust = measure_trust(world_model, judge, held_out.clips, question=question)
    tasks = {row.instruction: row.task_id for row in held_out.rows}
    return trust, trust_document(trust, tasks=tasks)


def trust_document(trust: Trust, *, tasks: Mapping[str, str]) -> dict[str, Any]:
    """The report as JSON: curves by step, outcomes by task, and what follows from them.

    Args:
        tasks: task id of each instruction.
    """
    every = all_outcomes(trust)
    return {
        "horizon": trust.horizon,
        "max_latent_error": trust.threshold,
        "action_sensitivity": trust.sensitivity,
        "outcomes": {tasks[sentence]: outcome_document(own) for sentence, own in trust.outcomes.items()},
        "overall": outcome_document(every),
        "drift": drift_document(trust.drift),
        "shuffled_latents": {str(step): error for step, error in trust.shuffled.items()},
    }


def outcome_document(outcomes: Outcomes) -> dict[str, Any]:
    return {**asdict(outcomes), "agreement": outcomes.agreement, "optimism": outcomes.optimism}


def drift_document(drift: Drift) -> dict[str, dict[str, float]]:
    """One curve per measure: {"pixels": {"1": …}, "psnr": …}."""
    return {
        name: {str(step): value for step, value in curve.items()} for name, curve in asdict(drift).items()
    }


def all_outcomes(trust: Trust) -> Outcomes:
    """Every task together."""
    every = [asdict(own) for own in trust.outcomes.values()]
    return Outcomes(**{name: sum(own[name] for own in every) for name in OUTCOMES})


def keep_report(
    context: PhaseContext,
    checkpoint: CheckpointRow,
    *,
    trust: Trust,
    document: Mapping[str, Any],
    gate: GateDecision | None,
    episodes: int,
) -> None:
    """A row of what was measured of this checkpoint, under the phase run's fence."""
    verdict = trust_reports.MEASURED
    if gate is not None:
        verdict = trust_reports.ACCEPTED if gate.accepted else trust_reports.REJECTED
    every = all_outcomes(trust)
    new = trust_reports.NewTrustReport(
        checkpoint_id=checkpoint.id,
        iteration_id=context.iteration_id,
        verdict=verdict,
        episodes=episodes,
        horizon=trust.horizon,
        agreement=every.agreement,
        optimism=every.optimism,
        sensitivity=trust.sensitivity,
        report={**document, "gate": None if gate is None else asdict(gate)},
    )
    with context.database.write() as session:
        phase_runs.require_held(session, context.phase_run_id, fence=context.fence)
        trust_reports.save(session, new, now=context.now())
