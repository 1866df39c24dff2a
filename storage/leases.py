"""Leases: who may write to one thing now, proved by a fence that only ever counts up.

The fence is the truth: a holder may go on while its fence is the current one, even past its time, and must
stop once somebody else came. The time only says when somebody else may come.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.db import serialise
from storage.errors import LeaseHeld, LeaseLost
from storage.tables import LeaseRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Proof of holding; pass its fence with every write."""

    name: str
    holder: str
    fence: int
    expires_at: datetime


def acquire(session: Session, name: str, *, holder: str, ttl_s: float, now: datetime) -> Lease:
    """Take a lease that is free, or whose time has run out. Every taking, also by the same holder, is new.

    Raises:
        LeaseHeld: somebody holds it and its time has not run out.
    """
    serialise(session, f"lease:{name}")
    row = _current(session, name)
    if row is None:
        row = LeaseRow(name=name, holder=None, fence=0, acquired_at=now, expires_at=now)
        session.add(row)
    if row.holder is not None and row.expires_at > now:
        raise LeaseHeld(name=name, holder=row.holder, expires_at=row.expires_at)
    row.holder = holder
    row.fence += 1
    row.acquired_at = now
    row.expires_at = now + timedelta(seconds=ttl_s)
    session.flush()
    return Lease(name=name, holder=holder, fence=row.fence, expires_at=row.expires_at)


def renew(session: Session, name: str, *, fence: int, ttl_s: float, now: datetime) -> Lease:
    """Hold on for another `ttl_s` seconds from now.

    Raises:
        LeaseLost: somebody else came, or it was released.
    """
    row = _required(session, name, fence)
    row.expires_at = now + timedelta(seconds=ttl_s)
    session.flush()
    return Lease(name=name, holder=str(row.holder), fence=row.fence, expires_at=row.expires_at)


def release(session: Session, name: str, *, fence: int, now: datetime) -> None:
    """Let go; the fence stays used.

    Raises:
        LeaseLost: somebody else came, or it was released before.
    """
    row = _required(session, name, fence)
    row.holder = None
    row.expires_at = now
    session.flush()


def require(session: Session, name: str, fence: int) -> None:
    """Check, and keep checked until the transaction ends, that this fence may write.

    Raises:
        LeaseLost: somebody else came, or it was released.
    """
    _required(session, name, fence)


def revoke(session: Session, name: str, *, now: datetime) -> None:
    """Take a lease from whoever holds it, without holding it; no holder is no error."""
    row = _current(session, name)
    if row is not None:
        row.holder = None
        row.expires_at = now
        session.flush()


def _current(session: Session, name: str) -> LeaseRow | None:
    query = sa.select(LeaseRow).where(LeaseRow.name == name).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def _required(session: Session, name: str, fence: int) -> LeaseRow:
    row = _current(session, name)
    if row is None:
        raise LeaseLost(name=name, fence=fence, current=0, holder=None)
    if row.fence != fence or row.holder is None:
        raise LeaseLost(name=name, fence=fence, current=row.fence, holder=row.holder)
    return row
