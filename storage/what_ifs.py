"""What-ifs: asked for, claimed under a lease, kept alive by heartbeats, and always brought to an end.

One whose worker is killed is tried again once. What is imagined is not here; a what-if's row is locked before
its lease.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import events, leases
from storage.canonical import as_json
from storage.errors import CursorInvalid, IllegalMove, LeaseLost, RowMissing
from storage.tables import LeaseRow
from storage.world_tables import WhatIfRow

MAX_ATTEMPTS = 2
KEPT = 200  # newest ones; older ones that are over are forgotten, pictures and all
LONGEST_WAIT_S = 3600.0  # in the queue: then no worker will come, and somebody still waits
MOVES: Mapping[str, tuple[str, ...]] = {
    "queued": ("running", "failed"),
    "running": ("queued", "finished", "failed"),
    "finished": (),
    "failed": (),
}
OPEN = ("queued", "running")
LEASE_EXPIRED = "lease_expired"
UNATTENDED = "what_if_unattended"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedWhatIf:
    """What a worker needs to do a what-if, and to prove that it is still the one who does it."""

    what_if_id: str
    attempt: int
    worker: str
    fence: int
    ttl_s: float
    request: dict[str, Any]


def lease_name(what_if_id: str) -> str:
    return f"what_if:{what_if_id}"


def ask(session: Session, request: Mapping[str, Any], *, who: str, now: datetime) -> WhatIfRow:
    """Queue one.

    Raises:
        NotJson: the request holds something that JSON cannot.
    """
    row = WhatIfRow(
        state="queued",
        attempts=0,
        request=as_json(request, what="what is asked"),
        requested_by=who,
        progress=0.0,
        progress_text="",
        requested_at=now,
    )
    session.add(row)
    session.flush()
    _tell(session, row, "requested", now=now)
    return row


def get(session: Session, what_if_id: str) -> WhatIfRow:
    """One what-if.

    Raises:
        RowMissing: there is none with this id.
    """
    row = session.get(WhatIfRow, what_if_id)
    if row is None:
        raise RowMissing(kind="what-if", row_id=what_if_id)
    return row


def list_what_ifs(
    session: Session, *, cursor: str | None = None, limit: int = 50
) -> tuple[list[WhatIfRow], str | None]:
    """A page, newest first, and the cursor of the page after it, if there is one.

    Raises:
        CursorInvalid: the cursor is not one that this function returned.
    """
    query = sa.select(WhatIfRow).order_by(WhatIfRow.requested_at.desc(), WhatIfRow.id.desc())
    if cursor is not None:
        before = session.get(WhatIfRow, cursor)
        if before is None:
            raise CursorInvalid(cursor=cursor)
        place = sa.tuple_(WhatIfRow.requested_at, WhatIfRow.id)
        query = query.where(
            place < sa.tuple_(sa.literal(before.requested_at, WhatIfRow.requested_at.type), before.id)
        )
    rows = list(session.scalars(query.limit(limit + 1)))
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def count_open(session: Session) -> int:
    """How many are not over."""
    return session.scalar(sa.select(sa.func.count()).where(WhatIfRow.state.in_(OPEN))) or 0


def count_all(session: Session) -> int:
    """How many there are."""
    return session.scalar(sa.select(sa.func.count()).select_from(WhatIfRow)) or 0


def claim(session: Session, worker: str, *, ttl_s: float, now: datetime) -> ClaimedWhatIf | None:
    """Take the oldest that waits, after those whose worker has gone silent were queued again or ended."""
    reap(session, now=now)
    query = sa.select(WhatIfRow).where(WhatIfRow.state == "queued")
    query = query.order_by(WhatIfRow.requested_at, WhatIfRow.id).limit(1)
    row = session.scalars(query.with_for_update(skip_locked=True)).one_or_none()
    if row is None:
        return None
    lease = leases.acquire(session, lease_name(row.id), holder=worker, ttl_s=ttl_s, now=now)
    _move(session, row, "running", now=now)
    row.attempts += 1
    row.worker, row.fence = worker, lease.fence
    session.flush()
    return ClaimedWhatIf(
        what_if_id=row.id,
        attempt=row.attempts,
        worker=worker,
        fence=lease.fence,
        ttl_s=ttl_s,
        request=row.request,
    )


def reap(session: Session, *, now: datetime) -> list[WhatIfRow]:
    """Queue again, or end, what a silent worker had; end what nobody has begun for too long.

    Returns:
        The rows that were moved.
    """
    query = sa.select(WhatIfRow).where(WhatIfRow.state.in_(OPEN)).order_by(WhatIfRow.requested_at)
    moved = []
    for row in session.scalars(query.with_for_update(skip_locked=True)):
        if row.state == "running" and _is_silent(session, row, now=now):
            leases.revoke(session, lease_name(row.id), now=now)
            said = (
                f"worker {row.worker} sent no heartbeat in time, at attempt {row.attempts} of {MAX_ATTEMPTS}"
            )
            _end_or_repeat(session, row, (LEASE_EXPIRED, said), retry=True, now=now)
            moved.append(row)
        elif row.state == "queued" and now - row.requested_at > timedelta(seconds=LONGEST_WAIT_S):
            said = f"no worker had time for it in {LONGEST_WAIT_S:.0f} s; ask again when one is idle"
            row.error_code, row.error_message = UNATTENDED, said
            _move(session, row, "failed", now=now)
            moved.append(row)
    session.flush()
    return moved


def heartbeat(session: Session, claimed: ClaimedWhatIf, *, progress: float, text: str, now: datetime) -> None:
    """Say how far it is, a share, and hold on to it for another `ttl_s` seconds.

    Raises:
        LeaseLost: somebody else has it, or it is over; stop.
    """
    row = _held(session, claimed)
    name = lease_name(row.id)
    leases.renew(session, name, fence=claimed.fence, ttl_s=claimed.ttl_s, now=now)
    row.progress, row.progress_text = min(max(progress, 0.0), 1.0), text
    session.flush()


def finish(session: Session, claimed: ClaimedWhatIf, *, result: Mapping[str, Any], now: datetime) -> None:
    """Keep what came out, and end it.

    Raises:
        LeaseLost: somebody else has it; the result is not kept.
        NotJson: the result holds NaN or something else that JSON cannot.
    """
    row = _let_go(session, claimed, now=now)
    row.result = as_json(result, what=f"the result of what-if {row.id}")
    row.progress, row.error_code, row.error_message = 1.0, None, None
    _move(session, row, "finished", now=now)


def fail(
    session: Session, claimed: ClaimedWhatIf, *, error: tuple[str, str], retry: bool, now: datetime
) -> None:
    """Keep why it failed, code and sentence; with `retry` it is queued again while an attempt is left.

    Raises:
        LeaseLost: somebody else has it; the failure is not kept.
    """
    row = _let_go(session, claimed, now=now)
    _end_or_repeat(session, row, error, retry=retry, now=now)


def release(session: Session, claimed: ClaimedWhatIf, *, now: datetime) -> None:
    """Give it back, as a worker does that is asked to stop: this attempt does not count.

    Raises:
        LeaseLost: somebody else has it already.
    """
    row = _let_go(session, claimed, now=now)
    row.attempts -= 1
    _move(session, row, "queued", now=now)


def forget_old(session: Session, *, kept: int = KEPT) -> int:
    """Delete those that are over and older than the newest `kept`; their pictures go with the next sweep."""
    newest = sa.select(WhatIfRow.id).order_by(WhatIfRow.requested_at.desc(), WhatIfRow.id.desc())
    stay = set(session.scalars(newest.limit(kept)))
    over = session.scalars(sa.select(WhatIfRow.id).where(WhatIfRow.state.not_in(OPEN)))
    old = [what_if_id for what_if_id in over if what_if_id not in stay]
    session.execute(sa.delete(WhatIfRow).where(WhatIfRow.id.in_(old)))
    session.execute(sa.delete(LeaseRow).where(LeaseRow.name.in_(map(lease_name, old))))
    return len(old)


def _is_silent(session: Session, row: WhatIfRow, *, now: datetime) -> bool:
    lease = session.get(LeaseRow, lease_name(row.id), with_for_update=True)
    return lease is None or lease.holder is None or lease.expires_at <= now


def _end_or_repeat(
    session: Session, row: WhatIfRow, error: tuple[str, str], *, retry: bool, now: datetime
) -> None:
    row.error_code, row.error_message = error
    again = retry and row.attempts < MAX_ATTEMPTS
    _move(session, row, "queued" if again else "failed", now=now)


def _move(session: Session, row: WhatIfRow, new: str, *, now: datetime) -> None:
    if new not in MOVES[row.state]:
        raise IllegalMove(what=f"what-if {row.id}", old=row.state, new=new, allowed=MOVES[row.state])
    row.state = new
    if new == "running":
        row.started_at = now
    if new == "queued":
        row.progress, row.progress_text = 0.0, ""
    if not MOVES[new]:
        row.finished_at = now
        _tell(session, row, new, now=now)
    session.flush()


def _tell(session: Session, row: WhatIfRow, what: str, *, now: datetime) -> None:
    facts: dict[str, Any] = {"what_if_id": row.id, "who": row.requested_by}
    if what == "failed":
        message = (row.error_message or "")[: events.LONGEST_MESSAGE]
        facts["error"] = {"code": row.error_code, "message": message}
    events.note(session, f"what_if_{what}", at=now, facts=facts)


def _held(session: Session, claimed: ClaimedWhatIf) -> WhatIfRow:
    row = session.get(WhatIfRow, claimed.what_if_id, with_for_update=True, populate_existing=True)
    name = lease_name(claimed.what_if_id)
    leases.require(session, name, claimed.fence)
    if row is None or row.state != "running" or row.fence != claimed.fence:
        raise LeaseLost(name=name, fence=claimed.fence, current=(row.fence or 0) if row else 0, holder=None)
    return row


def _let_go(session: Session, claimed: ClaimedWhatIf, *, now: datetime) -> WhatIfRow:
    row = _held(session, claimed)
    leases.release(session, lease_name(row.id), fence=claimed.fence, now=now)
    return row
