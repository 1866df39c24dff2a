"""Phase runs name the device that they were on.

Why: a ledger tells hours by device, and one without names cannot say which of several machines was used.
Old rows: a run that left a manifest has the accelerator, or else the processor, that the manifest names.
    The others have none, and their hours are those of an unknown device.
Locks: the table for a moment; a column without a default is not written into old rows. Safe while the
    previous release runs: what it does has no device.
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

LONGEST_NAME = 200

phase_runs = sa.table("phase_runs", sa.column("id"), sa.column("device"))
manifests = sa.table("phase_manifests", sa.column("phase_run_id"), sa.column("content"))


def upgrade() -> None:
    op.add_column("phase_runs", sa.Column("device", sa.String(length=LONGEST_NAME), nullable=True))
    session = op.get_bind()
    for run_id, content in session.execute(sa.select(manifests.c.phase_run_id, manifests.c.content)).all():
        name = _device(json.loads(content).get("environment") or {})
        if name is not None:
            session.execute(phase_runs.update().where(phase_runs.c.id == run_id).values(device=name))


def downgrade() -> None:
    op.drop_column("phase_runs", "device")


def _device(environment: dict[str, Any]) -> str | None:
    """What a manifest says that its phase computed with; there is no SQL for it that both databases have."""
    named = environment.get("accelerator") or environment.get("processor")
    return None if named is None else str(named).strip()[:LONGEST_NAME] or None
