"""Robot stations that episodes come from, as they last described themselves."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.canonical import as_json
from storage.db import serialise
from storage.tables import StationRow


def ensure(
    session: Session, station_id: str, *, description: Mapping[str, Any] | None = None, now: datetime
) -> StationRow:
    """Note that a station was seen; a description replaces the one before, None leaves it.

    Raises:
        NotJson: the description holds something that JSON cannot.
    """
    serialise(session, "stations")
    row = session.get(StationRow, station_id)
    if row is None:
        row = StationRow(id=station_id, description={}, first_seen_at=now, last_seen_at=now)
        session.add(row)
    row.last_seen_at = max(row.last_seen_at, now)
    if description is not None:
        row.description = as_json(description, what=f"the description of station {station_id}")
    session.flush()
    return row


def find(session: Session, station_id: str) -> StationRow | None:
    """One station, or None when nobody has seen it."""
    return session.get(StationRow, station_id)


def list_stations(session: Session) -> list[StationRow]:
    """Every station, by name."""
    return list(session.scalars(sa.select(StationRow).order_by(StationRow.id)))
