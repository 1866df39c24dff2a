"""What iterations cost and gained."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from daemon.api.pages import Cursor, Limit, OfLineage
from daemon.api.rate_schemas import LedgerPage
from daemon.api.services import Wired
from daemon.ledger import ledger_of, total_of
from storage import iterations

router = APIRouter(prefix="/v1/ledger", tags=["ledger"])

Since = Annotated[AwareDatetime | None, Query(alias="from", description="asked for then or later")]
Until = Annotated[AwareDatetime | None, Query(alias="to", description="asked for before")]


@router.get("", response_model=LedgerPage)
def list_costs(
    services: Wired,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    lineage: OfLineage = None,
) -> dict[str, Any]:
    """Give robot, worker and judge use of iterations, newest first, and the success that they gained."""
    with services.database.read() as session:
        found, next_cursor = iterations.list_numbers(
            session, since=since, until=until, lineage=lineage, cursor=cursor, limit=limit
        )
        items, total = ledger_of(session, found), total_of(session, found)
    return {"items": items, "total": total, "next_cursor": next_cursor}
