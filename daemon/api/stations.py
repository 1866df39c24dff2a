"""Robot stations: how they described themselves, and what their newest recordings say of them.

How each stands now is answered in `standing.py`.
"""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session

from daemon.api.lab_schemas import Station, Stations
from daemon.api.services import Wired
from daemon.api.station_hours import StationId
from daemon.errors import PageNotFound
from storage import station_health, stations
from storage.tables import StationRow

router = APIRouter(prefix="/v1/stations", tags=["stations"])


@router.get("", response_model=Stations)
def list_stations(services: Wired) -> dict[str, Any]:
    """Give every station that was seen, by name, with what its newest episodes say of it."""
    with services.database.read() as session:
        return {"items": [_record(session, row) for row in stations.list_stations(session)]}


@router.get("/{station_id}", response_model=Station)
def get_station(station_id: StationId, services: Wired) -> dict[str, Any]:
    """Give one station."""
    with services.database.read() as session:
        row = stations.find(session, station_id)
        if row is None:
            raise PageNotFound(what="station", key=station_id)
        return _record(session, row)


def _record(session: Session, row: StationRow) -> dict[str, Any]:
    health = asdict(station_health.of_station(session, row))
    return {
        "id": row.id,
        "description": row.description,
        "first_seen_at": row.first_seen_at,
        "last_seen_at": row.last_seen_at,
        "health": {name: health[name] for name in health if name not in {"station_id", "last_contact_at"}},
    }
