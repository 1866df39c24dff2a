"""The table of who may call the REST API: what a row is, never what is done with it."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from storage.columns import NAME_LENGTH, JsonColumn, Row

TOKEN_ID_LENGTH = 16  # hexadecimal digits


class AccessTokenRow(Row):
    """One bearer token; its secret is nowhere, only what a guess of it can be held against.

    A revoked token keeps its row, so that the audit events that name it stay understood.
    """

    __tablename__ = "access_tokens"

    id: Mapped[str] = mapped_column(sa.String(TOKEN_ID_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), index=True)
    scopes: Mapped[list[str]] = mapped_column(JsonColumn)
    secret_hash: Mapped[str] = mapped_column(sa.String(NAME_LENGTH))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
