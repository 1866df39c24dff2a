"""The manifest of a whole iteration: what was asked for, what each phase read, and what came of it.

What a phase read was written down when it began (`daemon/phases/manifest.py`); what came of it is in the
outcome of its run. Here both are put together, as one JSON document whose digest is its name.
"""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import checkpoints, manifests
from storage.manifests import KeptManifest
from storage.phase_runs import PHASES
from storage.tables import EpisodeRow, IterationRow

FORMAT = "iteration-manifest/1"

Document = dict[str, Any]


def iteration_manifest(session: Session, row: IterationRow) -> Document:
    """What is known of an iteration so far; a phase that left no manifest is absent."""
    kept = manifests.of_iteration(session, row.id)
    return {
        "format": FORMAT,
        "number": row.number,
        "id": row.id,
        "spec": row.spec,
        "spec_digest": row.spec_digest,
        "phases": {
            phase: phase_document(session, row, kept=kept[phase]) for phase in PHASES if phase in kept
        },
    }


def phase_document(session: Session, row: IterationRow, *, kept: KeptManifest) -> Document:
    """One phase: its inputs with their digest, and what it left; null while it has not finished."""
    return {
        "phase_run": kept.run.id,
        "attempt": kept.run.attempt,
        "state": kept.run.state,
        "inputs": inputs_of(kept),
        "inputs_sha256": kept.manifest.sha256,
        "outputs": outputs_of(session, row, kept=kept) if kept.run.state == "finished" else None,
    }


def inputs_of(kept: KeptManifest) -> Document:
    """What the phase read, as it was written."""
    found: Document = json.loads(kept.manifest.content)
    return found


def outputs_of(session: Session, row: IterationRow, *, kept: KeptManifest) -> Document:
    """Checkpoints by kind, rejected ones too, by file and by tensors; of a collect phase the episodes."""
    outcome: Mapping[str, Any] = kept.run.outcome or {}
    found: Document = {what: _made(session, outcome.get(what) or {}) for what in ("made", "rejected")}
    if kept.run.phase == "collect":
        query = sa.select(EpisodeRow.id, EpisodeRow.manifest_sha256, EpisodeRow.held_out).where(
            EpisodeRow.iteration_id == row.id
        )
        found["episodes"] = [
            {"id": id_, "sha256": sha256, "held_out": held_out}
            for id_, sha256, held_out in session.execute(
                query.order_by(EpisodeRow.committed_at, EpisodeRow.id)
            )
        ]
    return found


def _made(session: Session, ids: Mapping[str, str]) -> Document:
    tensors = manifests.tensor_digests(session, ids.values())
    rows = {kind: checkpoints.get(session, checkpoint_id) for kind, checkpoint_id in sorted(ids.items())}
    return {
        kind: {
            "id": row.id,
            "number": row.number,
            "sha256": row.sha256,
            "tensors_sha256": tensors.get(row.id),
        }
        for kind, row in rows.items()
    }
