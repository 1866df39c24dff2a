"""Who may call the REST API: bearer tokens with scopes, an end, and a last use.

A token reads `gmd_<id>_<secret>`. The id finds the row; of the secret the row holds a salted scrypt hash. It
is shown once, when it is made. Which call needs which scope is decided by the API.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.access_token_errors import AccessTokenExists, AccessTokenInvalid, listed
from storage.access_token_tables import TOKEN_ID_LENGTH, AccessTokenRow
from storage.db import serialise
from storage.errors import RowMissing

SCOPES = ("read", "operate", "label", "admin")
IMPLIED = {"operate": {"read"}, "label": {"read"}, "admin": set(SCOPES)}
NAME = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z._-]{0,99}")
MARK = "gmd"  # by which people and scanners know one of our tokens
SECRET_BYTES = 32
SALT_BYTES = 16
COST, BLOCK, LANES = 2**14, 8, 1  # scrypt's n, r, p: 16 MiB and about 50 ms of one core
TOKEN = re.compile(rf"{MARK}_([0-9a-f]{{{TOKEN_ID_LENGTH}}})_([0-9A-Za-z_-]{{43}})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What somebody showed: the id of a token and a secret that may be its own. It prints no secret."""

    id: str
    secret: str = field(repr=False)


def create(
    session: Session, name: str, *, scopes: Collection[str], expires_at: datetime | None, now: datetime
) -> tuple[AccessTokenRow, str]:
    """Make a token; gives its row, and the token itself: the only time that anybody sees it.

    Raises:
        AccessTokenInvalid: the name is no name, a scope is none of `SCOPES`, or it ends before it begins.
        AccessTokenExists: a token of that name is in force.
    """
    _require_valid(name, scopes, ends_early=expires_at is not None and expires_at <= now)
    serialise(session, "access_tokens")
    if _in_force(session, name) is not None:
        raise AccessTokenExists(name=name)
    secret = secrets.token_urlsafe(SECRET_BYTES)
    row = AccessTokenRow(
        id=secrets.token_hex(TOKEN_ID_LENGTH // 2),
        name=name,
        scopes=sorted(set(scopes)),
        secret_hash=hash_of(secret),
        created_at=now,
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return row, f"{MARK}_{row.id}_{secret}"


def revoke(session: Session, name: str, *, now: datetime) -> AccessTokenRow:
    """End a token; its row stays.

    Raises:
        RowMissing: no token of that name is in force.
    """
    row = _in_force(session, name)
    if row is None:
        raise RowMissing(kind="access token", row_id=name)
    row.revoked_at = now
    session.flush()
    return row


def list_tokens(session: Session) -> list[AccessTokenRow]:
    """All tokens that ever were, in the order they were made."""
    query = sa.select(AccessTokenRow).order_by(AccessTokenRow.created_at, AccessTokenRow.id)
    return list(session.scalars(query))


def any_in_force(session: Session) -> bool:
    """Whether there is a token that nobody revoked; one whose time is over counts."""
    query = sa.select(AccessTokenRow.id).where(AccessTokenRow.revoked_at.is_(None)).limit(1)
    return session.scalar(query) is not None


def find(session: Session, token_id: str) -> AccessTokenRow | None:
    """The row of a token by its id, whatever became of it."""
    return session.get(AccessTokenRow, token_id)


def note_use(session: Session, token_id: str, *, now: datetime) -> None:
    """Remember that a token was used."""
    session.execute(sa.update(AccessTokenRow).where(AccessTokenRow.id == token_id).values(last_used_at=now))


def read(token: str) -> Presented | None:
    """Take a token apart; None when it is none of ours."""
    found = TOKEN.fullmatch(token)
    return None if found is None else Presented(id=found[1], secret=found[2])


def allowed(scopes: Collection[str]) -> frozenset[str]:
    """Scopes, and those that they imply."""
    return frozenset(scopes).union(*(IMPLIED.get(scope, set()) for scope in scopes))


def hash_of(secret: str) -> str:
    """A salted hash to be stored: algorithm, costs, salt and digest in one text."""
    salt = secrets.token_bytes(SALT_BYTES)
    digest = _digest(secret, salt, (COST, BLOCK, LANES))
    return f"scrypt${COST}${BLOCK}${LANES}${salt.hex()}${digest.hex()}"


def matches(stored: str, secret: str) -> bool:
    """Whether a secret is the one that was hashed; slow on purpose, and in constant time."""
    _, cost, block, lanes, salt, digest = stored.split("$")
    found = _digest(secret, bytes.fromhex(salt), (int(cost), int(block), int(lanes)))
    return hmac.compare_digest(found, bytes.fromhex(digest))


def _digest(secret: str, salt: bytes, costs: tuple[int, int, int]) -> bytes:
    cost, block, lanes = costs
    return hashlib.scrypt(secret.encode("ascii"), salt=salt, n=cost, r=block, p=lanes, dklen=32)


def _in_force(session: Session, name: str) -> AccessTokenRow | None:
    query = sa.select(AccessTokenRow).where(AccessTokenRow.name == name, AccessTokenRow.revoked_at.is_(None))
    return session.scalar(query)


def _require_valid(name: str, scopes: Collection[str], *, ends_early: bool) -> None:
    if not NAME.fullmatch(name):
        expected = "a name of letters, digits and ._-, at most 100 of them"
        raise AccessTokenInvalid(name=name, expected=expected, found="another one")
    if not scopes or not set(scopes) <= set(SCOPES):
        raise AccessTokenInvalid(name=name, expected=f"scopes of {listed(SCOPES)}", found=listed(scopes))
    if ends_early:
        raise AccessTokenInvalid(name=name, expected="an end that is still to come", found="one in the past")
