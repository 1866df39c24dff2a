"""GET /v1/events: the journal over HTTP, with long-polling. Only the route; the journal is in `journal`."""

from __future__ import annotations

import time
from typing import Annotated, Final

from fastapi import APIRouter, FastAPI, Query, Request
from starlette.concurrency import run_in_threadpool

from robot_bridge.events import EVENTS_MAX, EVENTS_WAIT_MAX_S, EventsAnswer
from robot_bridge.station.journal import Journal

LOOK_EVERY_S: Final = 1.0  # how soon somebody who hung up stops taking a waiter's place
CURSOR_MAX: Final = 2**63 - 1


def event_routes(journal: Journal) -> APIRouter:
    """The one call of the journal. `wait` 0 answers at once, also when there is nothing new."""
    router = APIRouter(prefix="/v1")

    @router.get("/events")
    async def events(
        request: Request,
        after: Annotated[int, Query(ge=0, le=CURSOR_MAX)] = 0,
        wait: Annotated[float, Query(ge=0.0, le=EVENTS_WAIT_MAX_S, allow_inf_nan=False)] = 0.0,
        limit: Annotated[int, Query(ge=1, le=EVENTS_MAX)] = EVENTS_MAX,
    ) -> EventsAnswer:
        request.app.state.journal = journal
        ends_at = time.monotonic() + wait
        while True:
            left = ends_at - time.monotonic()
            if left <= 0:
                return await run_in_threadpool(journal.read, after, limit=limit)
            answer, timed_out = await run_in_threadpool(
                journal.wait_a_while, after, timeout_s=min(left, LOOK_EVERY_S), limit=limit
            )
            if answer.events or not timed_out or await request.is_disconnected():
                return answer

    return router


def end_waiting(app: FastAPI) -> None:
    """Answer everybody who waits at this app for an event: it is about to end."""
    journal = getattr(app.state, "journal", None)  # nobody ever waited where there is none
    if journal is not None:
        journal.release_waiters()
