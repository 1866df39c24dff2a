"""Schedules: iterations that are asked for again and again."""

import logging
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Response

from daemon.api.etags import IfMatch, check_match, etag
from daemon.api.schedule_schemas import ScheduleRecord, Schedules
from daemon.api.schemas import IterationRecord
from daemon.api.security import Actor
from daemon.api.services import Wired
from daemon.iteration import completed, iteration_standing
from daemon.scheduling.documents import (
    ScheduleChange,
    ScheduleWish,
    add_schedule,
    change_schedule,
    find_schedule,
    read_schedule,
    schedule_record,
)
from daemon.scheduling.due import run_now
from storage import audit, schedules

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/schedules", tags=["schedules"])

ScheduleId = Annotated[str, Path(max_length=40)]
RunKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=100,
        description="repeat a request with the same key: it is done once",
    ),
]


@router.post("", status_code=201, response_model=ScheduleRecord)
def create_schedule(asked: ScheduleWish, response: Response, services: Wired, actor: Actor) -> dict[str, Any]:
    """Keep a schedule. 201: it is new; 200: the same is there already; 409: another one has its name."""
    asked.spec.require_way(services.settings.collect_via)
    now = services.now()
    with services.database.write() as session:
        row, created = add_schedule(session, asked, now=now)
        if created:
            facts = {"trigger": row.trigger, "enabled": row.enabled}
            subject = f"schedule {row.name}"
            audit.write(session, actor, action="schedule_created", subject=subject, facts=facts, now=now)
        record = schedule_record(session, row)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/schedules/{row.id}"
    response.headers["ETag"] = etag(row.version)
    log.info("schedule kept schedule=%s new=%s", row.name, created)
    return record


@router.get("", response_model=Schedules)
def list_schedules(services: Wired) -> dict[str, Any]:
    """Give every schedule, by name."""
    with services.database.read() as session:
        rows = schedules.list_schedules(session)
        return {"items": [schedule_record(session, row) for row in rows]}


@router.get("/{schedule_id}", response_model=ScheduleRecord)
def get_schedule(schedule_id: ScheduleId, response: Response, services: Wired) -> dict[str, Any]:
    """Give one schedule; its ETag is needed to change it."""
    with services.database.read() as session:
        row = read_schedule(session, schedule_id)
        response.headers["ETag"] = etag(row.version)
        return schedule_record(session, row)


@router.patch("/{schedule_id}", response_model=ScheduleRecord)
def patch_schedule(
    schedule_id: ScheduleId,
    change: ScheduleChange,
    response: Response,
    services: Wired,
    actor: Actor,
    if_match: IfMatch = None,
) -> dict[str, Any]:
    """Change what is sent, and nothing else. 412: somebody else changed it; 428: without If-Match."""
    if change.spec is not None:
        change.spec.require_way(services.settings.collect_via)
    now = services.now()
    with services.database.write() as session:
        row = find_schedule(session, schedule_id)
        check_match(if_match, row.version, what=f"schedule {row.name}")
        change_schedule(session, row, change, now=now)
        facts = change.model_dump(mode="json", exclude_unset=True)
        subject = f"schedule {row.name}"
        audit.write(session, actor, action="schedule_changed", subject=subject, facts=facts, now=now)
        record = schedule_record(session, row)
    response.headers["ETag"] = etag(row.version)
    return record


@router.delete("/{schedule_id}", status_code=204)
def delete_schedule(schedule_id: ScheduleId, services: Wired, actor: Actor, if_match: IfMatch = None) -> None:
    """Forget a schedule; the iterations that it asked for stay."""
    now = services.now()
    with services.database.write() as session:
        row = find_schedule(session, schedule_id)
        check_match(if_match, row.version, what=f"schedule {row.name}", required=False)
        subject = f"schedule {row.name}"
        schedules.remove(session, row)
        facts = {"runs": row.runs}
        audit.write(session, actor, action="schedule_removed", subject=subject, facts=facts, now=now)


@router.post("/{schedule_id}/run-now", status_code=201, response_model=IterationRecord)
def run_schedule_now(
    schedule_id: ScheduleId,
    response: Response,
    services: Wired,
    actor: Actor,
    idempotency_key: RunKey = None,
) -> dict[str, Any]:
    """Ask for one iteration besides its times. 200: the key found it again; 409: its last one is not over."""
    key = idempotency_key or str(uuid.uuid4())
    with services.database.write() as session:
        row = find_schedule(session, schedule_id)
        iteration, created = run_now(session, row, key=key, actor=actor, now=services.now())
        standing = iteration_standing(session, iteration)
    with services.database.read() as session:
        record = completed(session, iteration, standing)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/iterations/{iteration.number}"
    log.info("schedule run now schedule=%s iteration=%d new=%s", row.name, iteration.number, created)
    return record
