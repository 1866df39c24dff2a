"""How far each webhook has been told of events: its position, and how its next delivery stands.

A delivery is sent first and entered after it, so a process that is killed in between sends it again and
never leaves it out. What is sent, and where to, is the daemon's business.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import events
from storage.event_tables import WebhookRow


def enter(session: Session, name: str) -> WebhookRow:
    """The row of a webhook; a new one is told of what happens from now on."""
    row = session.get(WebhookRow, name)
    if row is None:
        row = WebhookRow(
            name=name,
            position=events.newest_position(session),
            tries=0,
            failing_since=None,
            next_try_at=None,
            last_error=None,
            delivered=0,
            given_up=0,
        )
        session.add(row)
        session.flush()
    return row


def skip(session: Session, name: str, *, position: int) -> None:
    """Nothing up to this position is for this webhook."""
    _move(session, name, position)


def delivered(session: Session, name: str, *, position: int) -> None:
    """The event at this position has arrived."""
    _move(session, name, position).delivered += 1


def give_up(session: Session, name: str, *, position: int, reason: str) -> None:
    """The event at this position will not be sent any more."""
    row = _move(session, name, position)
    row.given_up += 1
    row.last_error = reason


def failed(session: Session, name: str, *, reason: str, next_try_at: datetime, now: datetime) -> WebhookRow:
    """A try failed; the same event is sent again, not before `next_try_at`."""
    row = enter(session, name)
    row.tries += 1
    row.failing_since = row.failing_since or now
    row.next_try_at = next_try_at
    row.last_error = reason
    return row


def all_rows(session: Session) -> list[WebhookRow]:
    """Every webhook that was ever told of anything, by name."""
    return list(session.scalars(sa.select(WebhookRow).order_by(WebhookRow.name)))


def _move(session: Session, name: str, position: int) -> WebhookRow:
    row = enter(session, name)
    row.position = max(row.position, position)
    row.tries, row.failing_since, row.next_try_at, row.last_error = 0, None, None, None
    return row
