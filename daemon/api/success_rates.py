"""Real success rates with intervals: of iterations, tasks, policies and stations; two policies compared."""

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.orm import Session

from daemon.api.etags import TaggedRoute
from daemon.api.pages import LONGEST_PAGE
from daemon.api.rate_schemas import GroupedRates, PolicyDifference
from daemon.api.schemas import SuccessRates
from daemon.api.services import Wired
from daemon.errors import PageNotFound, RequestInvalid
from daemon.iteration import overall_success, success_rate
from daemon.spec import Lineage
from daemon.statistics import Z_95, simultaneous_z
from daemon.success import difference_record, rate_record, success_of
from storage import checkpoints, iterations, success_counts
from storage.errors import RowMissing
from storage.success_counts import GROUPINGS, CountQuery

router = APIRouter(prefix="/v1/success-rates", tags=["success rates"], route_class=TaggedRoute)

CSV = "text/csv"
Page = tuple[list[dict[str, Any]], str | None]


class RatesAsked(BaseModel):
    """The query parameters; one that does not exist is an error."""

    model_config = ConfigDict(extra="forbid")

    by: str | None = Field(
        default=None,
        max_length=100,
        description=f"what to keep apart, of {', '.join(GROUPINGS)}, comma separated; empty: all together. "
        "Without it: per task, the success that each iteration tells.",
    )
    lineage: Lineage | None = Field(default=None, description="of this lineage's iterations only")
    since: AwareDatetime | None = Field(
        default=None, alias="from", description="episodes that began then or later"
    )
    until: AwareDatetime | None = Field(default=None, alias="to", description="episodes that began before")
    simultaneous: bool = Field(
        default=False, description="widen the intervals so that those of all groups hold at once"
    )
    format: Literal["json", "csv"] | None = Field(default=None, description="csv also by Accept: text/csv")
    limit: int = Field(default=50, ge=1, le=LONGEST_PAGE, description="iterations or groups at most")
    cursor: str | None = Field(
        default=None, max_length=200, description="`next_cursor` of the page before; in CSV, a header"
    )

    @model_validator(mode="after")
    def _only_groups_have_times(self) -> "RatesAsked":
        if self.by is None and (self.since, self.until, self.simultaneous) != (None, None, False):
            raise ValueError("from, to and simultaneous need by; by= alone counts everything together")
        return self

    @property
    def apart(self) -> tuple[str, ...]:
        """What the groups are kept apart by.

        Raises:
            RequestInvalid: a name that is none of GROUPINGS.
        """
        names = tuple(dict.fromkeys(name.strip() for name in (self.by or "").split(",") if name.strip()))
        if unknown := [name for name in names if name not in GROUPINGS]:
            expected = f"expected some of {', '.join(GROUPINGS)}; found {', '.join(unknown)}"
            raise RequestInvalid(faults={"by": expected})
        return names


@router.get("", response_model=SuccessRates | GroupedRates, responses={200: {"content": {CSV: {}}}})
def list_success_rates(
    services: Wired,
    asked: Annotated[RatesAsked, Query()],
    accept: Annotated[str | None, Header(max_length=500)] = None,
) -> Any:
    """Give real success with Wilson and beta-binomial 95 % intervals.

    Invalid episodes and those without a verdict are counted beside, never silently. Without `by`: the rates
    of the newest `limit` iterations; iterations without a judged episode have no row.
    """
    with services.database.read() as session:
        items, next_cursor = _of_iterations(session, asked) if asked.by is None else _groups(session, asked)
    if asked.format == "csv" or (asked.format is None and CSV in (accept or "")):
        headers = {"Next-Cursor": next_cursor} if next_cursor else {}
        return Response(as_csv(items), media_type=CSV, headers=headers)
    page: dict[str, Any] = {"items": items, "next_cursor": next_cursor}
    answer = (SuccessRates if asked.by is None else GroupedRates).model_validate(page)
    return Response(answer.model_dump_json(), media_type="application/json")  # built once, not twice


@router.get("/difference/{one}/{other}", response_model=PolicyDifference)
def get_difference(
    one: Annotated[str, Path(max_length=40)], other: Annotated[str, Path(max_length=40)], services: Wired
) -> dict[str, Any]:
    """Compare two policies, the other minus the one, with all their judged episodes.

    This looks back, once. Whether a candidate is promoted is decided by a sequential test; see trials.
    """
    with services.database.read() as session:
        for checkpoint_id in (one, other):
            try:
                checkpoints.get(session, checkpoint_id)
            except RowMissing:
                raise PageNotFound(what="checkpoint", key=checkpoint_id) from None
        counts = success_counts.of_policies(session, (one, other))
    return {"one": one, "other": other, **difference_record(counts[one], counts[other])}


def as_csv(items: Sequence[dict[str, Any]]) -> str:
    """A header and one line per item; nothing at all where there is no item."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(items[0]) if items else [], lineterminator="\r\n")
    if items:
        writer.writeheader()
    writer.writerows(items)
    return text.getvalue()


def _of_iterations(session: Session, asked: RatesAsked) -> Page:
    rows, next_cursor = iterations.list_numbers(
        session, lineage=asked.lineage, cursor=asked.cursor, limit=asked.limit
    )
    told = success_of(session, [iteration_id for iteration_id, _ in rows])
    items: list[dict[str, Any]] = []
    for iteration_id, number in rows:
        by_task = {task: success_rate(*count) for task, count in told[iteration_id].items()}
        items += [{"iteration": number, "task": task, **rate} for task, rate in by_task.items()]
        if by_task:
            items.append({"iteration": number, "task": None, **overall_success(by_task)})
    return items, next_cursor


def _groups(session: Session, asked: RatesAsked) -> Page:
    query = CountQuery(by=asked.apart, lineage=asked.lineage, since=asked.since, until=asked.until)
    found, next_cursor = success_counts.grouped(session, query, cursor=asked.cursor, limit=asked.limit)
    z = simultaneous_z(found[0].groups) if found and asked.simultaneous else Z_95
    return [rate_record(counted, z=z) for counted in found], next_cursor
