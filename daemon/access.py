"""What is done with access tokens, by command or over REST: one record of them, one kind of audit event."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from storage import access_tokens, audit
from storage.access_token_tables import AccessTokenRow


def make_token(
    session: Session,
    actor: str,
    *,
    name: str,
    scopes: Collection[str],
    expires_at: datetime | None,
    now: datetime,
) -> tuple[AccessTokenRow, str]:
    """Make a token and write down who did; gives its row, and the token itself for once.

    Raises:
        AccessTokenInvalid, AccessTokenExists: as `access_tokens.create`.
    """
    row, token = access_tokens.create(session, name, scopes=scopes, expires_at=expires_at, now=now)
    ends = None if expires_at is None else str(expires_at)
    facts = {"id": row.id, "scopes": row.scopes, "expires_at": ends}
    audit.write(session, actor, action="token_created", subject=_subject(name), facts=facts, now=now)
    return row, token


def end_token(session: Session, actor: str, *, name: str, now: datetime) -> AccessTokenRow:
    """Revoke a token and write down who did.

    Raises:
        RowMissing: no token of that name is in force.
    """
    row = access_tokens.revoke(session, name, now=now)
    facts = {"id": row.id}
    audit.write(session, actor, action="token_revoked", subject=_subject(name), facts=facts, now=now)
    return row


def token_record(row: AccessTokenRow, *, now: datetime) -> dict[str, Any]:
    """All that is told of a token; its secret is nowhere."""
    return {
        "id": row.id,
        "name": row.name,
        "scopes": list(row.scopes),
        "state": token_state(row, now=now),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "last_used_at": row.last_used_at,
    }


def token_state(row: AccessTokenRow, *, now: datetime) -> str:
    """Whether it opens anything now, in words."""
    if row.revoked_at is not None:
        return f"revoked {instant(row.revoked_at)}"
    if row.expires_at is None:
        return "in force"
    return f"{'ended' if row.expires_at <= now else 'in force until'} {instant(row.expires_at)}"


def instant(at: datetime) -> str:
    """A moment to the minute, for people."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _subject(name: str) -> str:
    return f"access token {name}"
