"""Tables of what a phase run worked from, and of what its weights hash to."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from storage.columns import ID_LENGTH, SHA256_LENGTH, Row


class PhaseManifestRow(Row):
    """Everything that one phase run worked from, as canonical JSON; `sha256` is that of the text."""

    __tablename__ = "phase_manifests"

    phase_run_id: Mapped[str] = mapped_column(
        sa.String(ID_LENGTH), sa.ForeignKey("phase_runs.id"), primary_key=True
    )
    content: Mapped[str] = mapped_column(sa.Text)
    sha256: Mapped[str] = mapped_column(sa.String(SHA256_LENGTH))
    written_at: Mapped[datetime]


class TensorDigestRow(Row):
    """sha256 of a checkpoint's tensors alone: equal weights have equal ones, whatever their cards say."""

    __tablename__ = "tensor_digests"

    checkpoint_id: Mapped[str] = mapped_column(
        sa.String(ID_LENGTH), sa.ForeignKey("checkpoints.id"), primary_key=True
    )
    sha256: Mapped[str] = mapped_column(sa.String(SHA256_LENGTH))
