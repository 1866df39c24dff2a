"""Hours of stations: when their robots may move."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from sqlalchemy.orm import Session

from daemon.api.etags import IfMatch, check_match, etag
from daemon.api.schedule_schemas import StationHours
from daemon.api.security import Actor
from daemon.api.services import Wired
from daemon.scheduling.hours import RobotHours, is_open
from daemon.scheduling.waiting import robot_waits
from storage import audit, station_hours

router = APIRouter(prefix="/v1/stations", tags=["stations"])

StationId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$")]


@router.get("/{station_id}/hours", response_model=StationHours)
def get_hours(station_id: StationId, response: Response, services: Wired) -> dict[str, Any]:
    """Give the hours of a station; without any it may move at any time. It need not have been seen."""
    with services.database.read() as session:
        limit = services.settings.robot_episodes_per_day
        record = _record(session, station_id, episodes_per_day=limit, now=services.now())
    response.headers["ETag"] = etag(record["version"])
    return record


@router.put("/{station_id}/hours", response_model=StationHours)
def put_hours(
    station_id: StationId,
    hours: RobotHours,
    response: Response,
    services: Wired,
    actor: Actor,
    if_match: IfMatch = None,
) -> dict[str, Any]:
    """Set the hours of a station; they hold from its next episode on."""
    now = services.now()
    document = hours.model_dump(mode="json")
    with services.database.write() as session:
        before = station_hours.held(session, station_id)
        check_match(if_match, before.version if before else 0, what=_what(station_id), required=False)
        station_hours.put(session, station_id, document, now=now)
        subject = f"station {station_id}"
        audit.write(session, actor, action="hours_set", subject=subject, facts=document, now=now)
        limit = services.settings.robot_episodes_per_day
        record = _record(session, station_id, episodes_per_day=limit, now=now)
    response.headers["ETag"] = etag(record["version"])
    return record


@router.delete("/{station_id}/hours", status_code=204)
def delete_hours(station_id: StationId, services: Wired, actor: Actor, if_match: IfMatch = None) -> None:
    """Let a station move at any time."""
    now = services.now()
    with services.database.write() as session:
        before = station_hours.held(session, station_id)
        check_match(if_match, before.version if before else 0, what=_what(station_id), required=False)
        if before is not None:
            station_hours.remove(session, before)
            subject = f"station {station_id}"
            audit.write(session, actor, action="hours_removed", subject=subject, facts={}, now=now)


def _record(
    session: Session, station_id: str, *, episodes_per_day: int | None, now: datetime
) -> dict[str, Any]:
    row = station_hours.get(session, station_id)
    hours = RobotHours() if row is None else RobotHours.model_validate(row.hours)
    waits = robot_waits(session, station_id, episodes_per_day=episodes_per_day, now=now)
    return {
        "station": station_id,
        "hours": hours.model_dump(mode="json"),
        "version": 0 if row is None else row.version,
        "updated_at": None if row is None else row.updated_at,
        "open_now": is_open(hours, now),
        "waiting_for": None if waits is None else str(waits),
    }


def _what(station_id: str) -> str:
    return f"the hours of station {station_id}"
