"""The tables of what happened, of who is told of it, and of requests that were answered before."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from storage.columns import NAME_LENGTH, SHA256_LENGTH, Row, Serial

KIND_LENGTH = 64


class EventRow(Row):
    """One thing that happened. Ids rise in the order of commits. The database refuses changes."""

    __tablename__ = "events"
    __table_args__ = (sa.Index(None, "kind", "id"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(sa.String(KIND_LENGTH))
    iteration: Mapped[int | None] = mapped_column(index=True)
    facts: Mapped[dict[str, Any]]


class WebhookRow(Row):
    """How far one webhook has been told of events; `tries` and `failing_since` are of the next one."""

    __tablename__ = "webhooks"
    __table_args__ = (sa.CheckConstraint("tries >= 0", name="tries_count_up"),)

    name: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), primary_key=True)
    position: Mapped[int] = mapped_column(sa.BigInteger)
    tries: Mapped[int]
    failing_since: Mapped[datetime | None]
    next_try_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(sa.Text)
    delivered: Mapped[int]
    given_up: Mapped[int]


class RequestKeyRow(Row):
    """An idempotency key that was used, and what the request made."""

    __tablename__ = "request_keys"

    scope: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), primary_key=True)
    digest: Mapped[str] = mapped_column(sa.String(SHA256_LENGTH))
    made: Mapped[str] = mapped_column(sa.String(NAME_LENGTH))
    used_at: Mapped[datetime]
