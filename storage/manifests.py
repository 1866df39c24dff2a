"""Manifests of phase runs, kept as text so that equal ones have equal digests on both databases.

What is in one is the business of the daemon.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.canonical import canonical_json, text_digest
from storage.manifest_tables import PhaseManifestRow, TensorDigestRow
from storage.tables import PhaseRunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptManifest:
    """A phase run and the manifest that it left."""

    run: PhaseRunRow
    manifest: PhaseManifestRow


def save(
    session: Session, phase_run_id: str, content: Mapping[str, Any], *, now: datetime
) -> PhaseManifestRow:
    """Keep what a phase run works from; what the same run kept before is replaced.

    Raises:
        NotJson: the content holds something that JSON cannot.
    """
    text = canonical_json(content, what=f"the manifest of phase run {phase_run_id}")
    row = session.get(PhaseManifestRow, phase_run_id)
    if row is None:
        row = PhaseManifestRow(phase_run_id=phase_run_id)
        session.add(row)
    row.content, row.sha256, row.written_at = text, text_digest(text), now
    session.flush()
    return row


def of_iteration(session: Session, iteration_id: str) -> dict[str, KeptManifest]:
    """Manifests by phase, where there is one; of several attempts the finished one's, else the last."""
    query = (
        sa.select(PhaseRunRow, PhaseManifestRow)
        .join(PhaseManifestRow, PhaseManifestRow.phase_run_id == PhaseRunRow.id)
        .where(PhaseRunRow.iteration_id == iteration_id)
        .order_by(sa.case((PhaseRunRow.state == "finished", 1), else_=0), PhaseRunRow.attempt)
    )
    return {
        run.phase: KeptManifest(run=run, manifest=manifest) for run, manifest in session.execute(query).all()
    }


def note_tensors(session: Session, checkpoint_id: str, sha256: str) -> None:
    """Keep what a checkpoint's tensors hash to."""
    session.add(TensorDigestRow(checkpoint_id=checkpoint_id, sha256=sha256))
    session.flush()


def tensor_digests(session: Session, checkpoint_ids: Iterable[str]) -> dict[str, str]:
    """What the tensors of these checkpoints hash to; those made before this was kept are left out."""
    query = sa.select(TensorDigestRow).where(TensorDigestRow.checkpoint_id.in_(list(checkpoint_ids)))
    return {row.checkpoint_id: row.sha256 for row in session.scalars(query)}
