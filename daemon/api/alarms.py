"""Alarms: real success that changed while the policy did not."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from daemon.alarms import alarms_of
from daemon.api.pages import Cursor
from daemon.api.rate_schemas import Alarms
from daemon.api.services import Wired
from storage import outcomes

router = APIRouter(prefix="/v1/alarms", tags=["alarms"])

Policies = Annotated[int, Query(ge=1, le=50, description="how many policies are looked at, newest first")]


@router.get("", response_model=Alarms)
def list_alarms(services: Wired, limit: Policies = 10, cursor: Cursor = None) -> dict[str, Any]:
    """Give the alarms of policies that acted in several iterations, the newest policies' first.

    Simulated (`benchmarks/alarm_errors.py`): while nothing changes, one episode in 2,400 to 8,300 raises a
    false alarm, by the true rate. A fall by 0.4 takes about 20 episodes to be noticed; one by 0.2 takes 60 to
    80, and a third to over half of those are not noticed within 300.
    """
    with services.database.read() as session:
        policies, next_cursor = outcomes.policies_that_stayed(session, cursor=cursor, limit=limit)
        items = alarms_of(session, policies)
    return {"items": items, "watched": [row.id for row in policies], "next_cursor": next_cursor}
