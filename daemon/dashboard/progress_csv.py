"""The tables of the progress page as files: every row of a lineage, where REST gives a page of them."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from daemon.api.comma_separated import csv_answer
from daemon.api.pages import LONGEST_PAGE, OfLineage
from daemon.api.services import Wired
from daemon.api.success_rates import RatesAsked, rates_page
from daemon.dashboard.lineage import lineage_shown
from daemon.dashboard.page import PageRoute
from daemon.ledger import flattened, ledger_of
from storage import iterations

router = APIRouter(route_class=PageRoute)

Rows = list[dict[str, Any]]
Table = Literal["success-rates", "policies", "costs"]


@router.get("/progress/{table}.csv")
def get_table(table: Table, services: Wired, lineage: OfLineage = None) -> Response:
    """One of the tables as comma-separated values, newest iteration first."""
    with services.database.read() as session:
        shown, _ = lineage_shown(session, lineage)
        answer = csv_answer(TABLES[table](session, shown), None)
    answer.headers["Content-Disposition"] = f'attachment; filename="{table}-{shown}.csv"'
    return answer


def rates(session: Session, lineage: str, *, by: str | None = None, at_once: int = LONGEST_PAGE) -> Rows:
    """Every row of `GET /v1/success-rates`, asked for page by page."""
    found, cursor = rates_page(session, RatesAsked(by=by, lineage=lineage, limit=at_once))
    while cursor is not None:
        more, cursor = rates_page(session, RatesAsked(by=by, lineage=lineage, limit=at_once, cursor=cursor))
        found += more
    return found


def costs(session: Session, lineage: str, *, at_once: int = LONGEST_PAGE) -> Rows:
    """Every row of `GET /v1/ledger`, with a column for each device of the lineage."""
    records: Rows = []
    named, cursor = iterations.list_numbers(session, lineage=lineage, limit=at_once)
    records += ledger_of(session, named)
    while cursor is not None:
        named, cursor = iterations.list_numbers(session, lineage=lineage, cursor=cursor, limit=at_once)
        records += ledger_of(session, named)
    return flattened(records)


def _by_policy(session: Session, lineage: str) -> Rows:
    return rates(session, lineage, by="task,policy")


TABLES: Mapping[str, Callable[[Session, str], Rows]] = {
    "success-rates": rates,
    "policies": _by_policy,
    "costs": costs,
}
