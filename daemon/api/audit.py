"""The audit log, for the scope `admin`: who did what to which thing, when. It is only ever added to."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from daemon.api.lab_schemas import Acts
from daemon.api.pages import Cursor, Limit
from daemon.api.security import needs
from daemon.api.services import Wired
from storage import audit

router = APIRouter(prefix="/v1/audit", tags=["audit"])

By = Annotated[str | None, Query(max_length=100, description="what this actor did only: a token's name")]
On = Annotated[str | None, Query(max_length=100, description="of this thing only, such as `iteration 7`")]


@router.get("", response_model=Acts, dependencies=[needs("admin")])
def list_acts(
    services: Wired, limit: Limit = 50, cursor: Cursor = None, actor: By = None, subject: On = None
) -> dict[str, Any]:
    """Give a page of acts, newest first."""
    with services.database.read() as session:
        rows, next_cursor = audit.list_acts(session, actor=actor, subject=subject, cursor=cursor, limit=limit)
    plain = ("id", "at", "actor", "action", "subject", "facts")
    items = [{name: getattr(row, name) for name in plain} for row in rows]
    return {"items": items, "next_cursor": next_cursor}
