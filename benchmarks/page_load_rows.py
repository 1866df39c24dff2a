"""What pages show beside the rows of `rest_load_rows`: manifests, lines of checkpoints, trust, curves.

Manifests name as many episodes as phases read of a lab that has many: those of the iteration, and the newest
before it. A page shows them of one iteration, so only the last `WITH_MANIFESTS` iterations have some.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.rest_load_rows import EVERY, START, TASKS, fill
from daemon.curves import curves_path
from storage.canonical import canonical_json, text_digest
from storage.db import Database
from storage.manifest_tables import PhaseManifestRow, TensorDigestRow
from storage.tables import (
    CheckpointRow,
    EpisodeRow,
    IterationRow,
    LabelRow,
    PhaseRunRow,
    TrustReportRow,
)

READ_EPISODES = 100 + 200 + 400 + 100 + 64  # fresh, older, imported, held out, held out of before
WITH_MANIFESTS = 20
CURVES = {"finetune_world_model": (10_000, 6), "update_policy": (1000, 40)}  # updates, and their curves
STEPS = 40  # of a trust report's curves
OUTCOMES = {"hits": 6, "false_hopes": 2, "missed": 1, "rightly_failed": 2, "declined": 0, "agreement": 0.7}
Values = dict[str, Any]


def bring_in(database: Database, folder: Path, *, episodes: int, iterations: int) -> None:
    """Everything that a lab of this size has to show."""
    fill(database, episodes=episodes, iterations=iterations)
    with database.write() as session:
        runs = {(run.iteration_id, run.phase): run for run in session.scalars(sa.select(PhaseRunRow))}
        rows = list(session.scalars(sa.select(IterationRow).order_by(IterationRow.number)))
        models = _line_of_checkpoints(session, rows)
        session.execute(sa.insert(TrustReportRow), [_trust(row, models[row.number]) for row in rows])
        for row in rows:
            _outcomes(row, runs, model=models[row.number])
        for row in rows[-WITH_MANIFESTS:]:
            read = _episodes_read(session, row)
            phases = [run for (owner, _), run in runs.items() if owner == row.id]
            session.execute(sa.insert(PhaseManifestRow), [_manifest(row, run, read) for run in phases])
    with database.write() as session:
        session.execute(sa.text("ANALYZE"))
    for phase, (updates, curves) in CURVES.items():
        _write_curves(curves_path(folder, runs[rows[-1].id, phase].id), updates=updates, curves=curves)


def _line_of_checkpoints(session: sa.orm.Session, rows: list[IterationRow]) -> dict[int, str]:
    """Policies and world models in a line each, every fifth beside it; world models by iteration number."""
    policies = list(
        session.scalars(
            sa.select(CheckpointRow).where(CheckpointRow.kind == "policy").order_by(CheckpointRow.number)
        )
    )
    for row, before in zip(policies[1:], policies, strict=False):
        row.parent_id = before.id if before.number % 5 else policies[before.number - 2].id
        row.iteration_id, row.lineage = rows[before.number - 1].id, "main"
    made: dict[int, str] = {}
    for row in rows:
        model = CheckpointRow(
            kind="world_model", number=row.number, parent_id=made.get(row.number - 1), iteration_id=row.id,
            lineage="main", sha256=f"{row.number:064x}", size_bytes=1, spec_digest="0" * 64, card={},
            created_at=START + row.number * EVERY,
        )  # fmt: skip
        session.add(model)
        session.flush()
        made[row.number] = model.id
    session.execute(
        sa.insert(TensorDigestRow), [{"checkpoint_id": id_, "sha256": "0" * 64} for id_ in made.values()]
    )
    return made


def _outcomes(row: IterationRow, runs: dict[tuple[str, str], PhaseRunRow], *, model: str) -> None:
    """What each phase left, as the phases of a lab leave it."""
    count = {"successes": 20, "episodes": 40}
    by_task = {task: {"champion": count, "candidate": count, "probability_better": 0.8} for task in TASKS}
    runs[row.id, "collect"].outcome = {
        "trial": {"decision": "promoted", "probability_better": 0.9, "by_task": by_task}
    }
    runs[row.id, "finetune_world_model"].outcome = {
        "held_out_error": {"before": 0.02, "after": 0.01, "by_horizon": {}, "unit": "u"},
        "gate": {"accepted": True, "reasons": ["better"], "fresh": None, "older": None},
        "trust": _report(),
        "made": {"world_model": model},
    }
    runs[row.id, "update_policy"].outcome = {
        "imagined_success": {task: {"first": 0.25, "last": 0.5} for task in TASKS},
        "judge_audit": dict.fromkeys(TASKS, OUTCOMES),
        "read": {"world_model": model},
        "made": {},
    }


def _report() -> Values:
    curve = {str(step): 0.1 for step in range(1, STEPS + 1)}
    own = {**OUTCOMES, "optimism": 0.1}
    return {
        "horizon": 33, "max_latent_error": 0.5, "action_sensitivity": 1.4,
        "outcomes": dict.fromkeys(TASKS, own), "overall": own,
        "drift": dict.fromkeys(("psnr", "ssim", "latents", "pixels", "still"), curve),
        "shuffled_latents": curve,
    }  # fmt: skip


def _trust(row: IterationRow, model: str) -> Values:
    return {
        "checkpoint_id": model, "iteration_id": row.id, "verdict": "accepted", "episodes": 64, "horizon": 33,
        "agreement": 0.7, "optimism": 0.1, "sensitivity": 1.4, "report": _report(),
        "measured_at": START + row.number * EVERY,
    }  # fmt: skip


def _episodes_read(session: sa.orm.Session, row: IterationRow) -> list[Values]:
    """The newest episodes until the end of an iteration, as its manifests name them."""
    query = (
        sa.select(EpisodeRow.id, EpisodeRow.manifest_sha256, LabelRow.id, LabelRow.success)
        .outerjoin(LabelRow, LabelRow.episode_id == EpisodeRow.id)
        .where(EpisodeRow.committed_at < START + (row.number + 1) * EVERY)
        .order_by(EpisodeRow.committed_at.desc())
        .limit(READ_EPISODES)
    )
    return [
        {
            "id": id_,
            "sha256": sha256,
            "use": "fresh",
            "held_out": False,
            "labels": [label],
            "success": success,
        }
        for id_, sha256, label, success in session.execute(query)
    ]


def _manifest(row: IterationRow, run: PhaseRunRow, read: list[Values]) -> Values:
    content = {
        "format": "phase-manifest/1", "phase": run.phase, "seed": row.number, "spec_digest": row.spec_digest,
        "iteration": {"id": row.id, "number": row.number},
        "code": {"version": "1", "sha256": f"{row.number:064x}", "commit": None},
        "environment": {"packages": {f"package-{n}": f"{n}.{row.number}" for n in range(12)}, "threads": 2},
        "checkpoints": {"world_model": {"id": "w", "number": row.number, "sha256": f"{row.number:064x}"}},
        "episodes": read,
    }  # fmt: skip
    text = canonical_json(content, what="a manifest")
    return {
        "phase_run_id": run.id, "content": text, "sha256": text_digest(text),
        "written_at": START + row.number * EVERY,
    }  # fmt: skip


def _write_curves(path: Path, *, updates: int, curves: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for update in range(updates):
            values = {f"curve-{place}": (update * (place + 7) % 101) / 101 for place in range(curves)}
            stream.write(json.dumps({"at": START.isoformat(), "update": update, **values}) + "\n")
