"""Real success rates: every iteration, every task, with intervals."""

from typing import Any

from fastapi import APIRouter

from daemon.api.etags import TaggedRoute
from daemon.api.pages import Cursor, Limit
from daemon.api.schemas import SuccessRates
from daemon.api.services import Wired
from daemon.iteration import overall_success, success_by_task
from storage import iterations

router = APIRouter(prefix="/v1/success-rates", tags=["success rates"], route_class=TaggedRoute)


@router.get("", response_model=SuccessRates)
def list_success_rates(services: Wired, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
    """Give the rates of the newest `limit` iterations; iterations without a judged episode have no row."""
    with services.database.read() as session:
        rows, next_cursor = iterations.list_iterations(session, cursor=cursor, limit=limit)
        items = []
        for row in rows:
            by_task = success_by_task(session, row.id)
            items += [{"iteration": row.number, "task": task, **rate} for task, rate in by_task.items()]
            if by_task:
                items.append({"iteration": row.number, "task": None, **overall_success(by_task)})
    return {"items": items, "next_cursor": next_cursor}
