"""What iterations cost and gained."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from daemon.api.comma_separated import CSV_OR_JSON, CSV_TOO, Format, csv_answer, wants_csv
from daemon.api.pages import LONGEST_PAGE
from daemon.api.rate_schemas import LedgerPage
from daemon.api.services import Wired
from daemon.ledger import flattened, ledger_of, total_of
from daemon.spec_types import Lineage
from storage import iterations

router = APIRouter(prefix="/v1/ledger", tags=["ledger"])


class CostsAsked(BaseModel):
    """The query parameters; one that does not exist is an error."""

    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime | None = Field(default=None, alias="from", description="asked for then or later")
    until: AwareDatetime | None = Field(default=None, alias="to", description="asked for before")
    format: Format = CSV_OR_JSON
    limit: int = Field(default=50, ge=1, le=LONGEST_PAGE, description="how many items at most")
    cursor: str | None = Field(
        default=None, max_length=200, description="`next_cursor` of the page before; in CSV, a header"
    )
    lineage: Lineage | None = Field(default=None, description="of this lineage only")


@router.get("", response_model=LedgerPage, responses=CSV_TOO)
def list_costs(
    services: Wired,
    asked: Annotated[CostsAsked, Query()],
    accept: Annotated[str | None, Header(max_length=500)] = None,
) -> Any:
    """Give robot, worker, device and judge use of iterations, newest first, and the success that they gained.

    CSV has a line for each iteration, without the total, and a column for each device of the page.
    """
    with services.database.read() as session:
        found, next_cursor = iterations.list_numbers(
            session,
            since=asked.since,
            until=asked.until,
            lineage=asked.lineage,
            cursor=asked.cursor,
            limit=asked.limit,
        )
        items, total = ledger_of(session, found), total_of(session, found)
    if wants_csv(asked.format, accept):
        return csv_answer(flattened(items), next_cursor)
    return {"items": items, "total": total, "next_cursor": next_cursor}
