"""The tables of what people ask of a world model: what-ifs, and pictures of theirs to start rollouts from."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from storage.columns import ID_LENGTH, NAME_LENGTH, JsonColumn, Row, new_id


class WhatIfRow(Row):
    """A few rollouts that somebody wants imagined: what was asked, how far it is, what came out.

    `request` and `result` name their pictures by sha256, so that no sweep takes those away.
    """

    __tablename__ = "what_ifs"
    __table_args__ = (
        sa.CheckConstraint("state IN ('queued', 'running', 'finished', 'failed')", name="state_is_known"),
        sa.CheckConstraint("attempts >= 0", name="attempts_count_up"),
        sa.CheckConstraint("progress >= 0 AND progress <= 1", name="progress_is_a_share"),
        sa.Index(None, "state", "requested_at"),
    )

    id: Mapped[str] = mapped_column(sa.String(ID_LENGTH), primary_key=True, default=new_id)
    state: Mapped[str] = mapped_column(sa.String(16))
    attempts: Mapped[int]
    request: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    requested_by: Mapped[str] = mapped_column(sa.String(NAME_LENGTH))
    worker: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH))
    fence: Mapped[int | None] = mapped_column(sa.BigInteger)
    progress: Mapped[float] = mapped_column(sa.Double)
    progress_text: Mapped[str] = mapped_column(sa.Text)
    requested_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH))
    error_message: Mapped[str | None] = mapped_column(sa.Text)


class StartImageRow(Row):
    """A picture that somebody brought for policy updates to start from, and what is asked of the robot there.

    `image` names its blob by sha256, with width and height; it is gone once the picture was removed.
    """

    __tablename__ = "start_images"
    __table_args__ = (
        sa.CheckConstraint("(image IS NULL) = (removed_at IS NOT NULL)", name="image_ends"),
        sa.Index(None, "removed_at", "task_id"),
    )

    id: Mapped[str] = mapped_column(sa.String(ID_LENGTH), primary_key=True, default=new_id)
    task_id: Mapped[str] = mapped_column(sa.String(NAME_LENGTH))
    instruction: Mapped[str] = mapped_column(sa.Text)
    image: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    added_by: Mapped[str] = mapped_column(sa.String(NAME_LENGTH))
    added_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]
