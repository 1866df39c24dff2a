"""Iterations: ask for one, follow it, see what it measured."""

import logging
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Response

from daemon.api.etags import TaggedRoute
from daemon.api.kept_answers import keeps
from daemon.api.pages import Cursor, Limit, Number, OfLineage
from daemon.api.schemas import IterationPage, IterationRecord
from daemon.api.security import Actor
from daemon.api.services import Services, Wired
from daemon.curves import Points, curves_path, read_curves
from daemon.errors import PageNotFound
from daemon.iteration import (
    completed,
    film_strips,
    find_iteration,
    iteration_record,
    iteration_standing,
    iteration_summary,
)
from daemon.scheduling.budgets import budgets_of
from daemon.scheduling.waiting import waiting_for
from daemon.spec import IterationSpec
from storage import audit, iterations, phase_runs

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/iterations", tags=["iterations"], route_class=TaggedRoute)

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=200, description="repeat a request with the same key: it is done once"),
]


@router.post("", status_code=201, response_model=IterationRecord)
def request_iteration(
    spec: IterationSpec,
    response: Response,
    services: Wired,
    actor: Actor,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Ask for an iteration. 201: it is new; 200: the key found it again; 409: with another spec."""
    spec.require_way(services.settings.collect_via)
    now = services.now()
    with services.database.write() as session:
        row, created = iterations.request_iteration(
            session, spec=spec.document(), idempotency_key=idempotency_key, now=now
        )
        if created:
            facts = {"spec_digest": row.spec_digest, "idempotency_key": idempotency_key}
            subject = f"iteration {row.number}"
            audit.write(session, actor, action="iteration_requested", subject=subject, facts=facts, now=now)
        standing = iteration_standing(session, row)
    with services.database.read() as session:
        record = completed(session, row, standing)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/iterations/{row.number}"
    log.info("iteration requested iteration=%d new=%s digest=%s", row.number, created, row.spec_digest)
    return record


@router.get("", response_model=IterationPage, dependencies=[keeps()])
def list_iterations(
    services: Wired, limit: Limit = 50, cursor: Cursor = None, lineage: OfLineage = None
) -> Response:
    """Give a page of iterations, newest first."""
    with services.database.read() as session:
        rows, next_cursor = iterations.list_iterations(session, lineage=lineage, cursor=cursor, limit=limit)
    page = {"items": [iteration_summary(row) for row in rows], "next_cursor": next_cursor}
    answer = IterationPage.model_validate(page).model_dump_json()  # built once: pages are large
    return Response(answer, media_type="application/json")


@router.get("/{number}", response_model=IterationRecord)
def get_iteration(number: Number, services: Wired) -> dict[str, Any]:
    """Give everything that is known of one iteration."""
    with services.database.read() as session:
        row = find_iteration(session, number)
        waits = waiting_for(session, row, budgets=budgets_of(services.settings), now=services.now())
        return {**iteration_record(session, row), "waiting_for": waits}


@router.get("/{number}/curves")
def get_curves(number: Number, services: Wired) -> dict[str, dict[str, Points]]:
    """Give the training curves: phase, name, then points [x, y]. Of several attempts the last counts."""
    with services.database.read() as session:
        runs = phase_runs.of_iteration(session, find_iteration(session, number).id)
    return {run.phase: read_curves(curves_path(services.settings.data_dir, run.id)) for run in runs}


@router.get("/{number}/film-strips/{task}/{origin}.jpg", response_class=Response)
def get_film_strip(
    number: Number, task: str, origin: Literal["real", "imagined"], services: Wired
) -> Response:
    """Give the frames of one held-out episode, or what the world model made of the same start and actions."""
    sha256 = _strip_of(number, task, origin=origin, services=services)
    if sha256 is None:
        raise PageNotFound(what=f"{origin} film strip of iteration {number} for task", key=task)
    return Response(services.blobs.read(sha256), media_type="image/jpeg")


def _strip_of(number: int, task: str, *, origin: str, services: Services) -> str | None:
    with services.database.read() as session:
        strips = film_strips(session, find_iteration(session, number))
    return strips.get(task, {}).get(origin)
