"""Real success rates with intervals: of iterations, tasks, policies and stations; two policies compared."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.orm import Session

from daemon.api.comma_separated import CSV_OR_JSON, CSV_TOO, Format, csv_answer, wants_csv
from daemon.api.etags import TaggedRoute
from daemon.api.kept_answers import keeps
from daemon.api.pages import LONGEST_PAGE
from daemon.api.rate_schemas import GroupedRates, PolicyDifference
from daemon.api.schemas import SuccessRates
from daemon.api.services import Wired
from daemon.errors import PageNotFound, RequestInvalid
from daemon.iteration import overall_success, success_rate
from daemon.spec_types import Lineage
from daemon.statistics import Z_95, simultaneous_z
from daemon.success import alike_counts, difference_record, rate_record, success_of
from storage import checkpoints, end_rules, iterations, success_counts
from storage.errors import RowMissing
from storage.success_counts import GROUPINGS, Counted, CountQuery

router = APIRouter(prefix="/v1/success-rates", tags=["success rates"], route_class=TaggedRoute)

Page = tuple[list[dict[str, Any]], str | None]
Grouped = tuple[list[Counted], str | None]


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
    format: Format = CSV_OR_JSON
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


@router.get("", response_model=SuccessRates | GroupedRates, responses=CSV_TOO, dependencies=[keeps()])
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
        items, next_cursor = rates_page(session, asked, grouped=services.counts.grouped)
    if wants_csv(asked.format, accept):
        return csv_answer(items, next_cursor)
    page: dict[str, Any] = {"items": items, "next_cursor": next_cursor}
    answer = (SuccessRates if asked.by is None else GroupedRates).model_validate(page)
    return Response(answer.model_dump_json(), media_type="application/json")  # built once, not twice


@router.get("/difference/{one}/{other}", response_model=PolicyDifference)
def get_difference(
    one: Annotated[str, Path(max_length=40)], other: Annotated[str, Path(max_length=40)], services: Wired
) -> dict[str, Any]:
    """Compare two policies, the other minus the one, with their judged episodes that ended by the same rule.

    This looks back, once. Whether a candidate is promoted is decided by a sequential test; see trials.
    """
    with services.database.read() as session:
        for checkpoint_id in (one, other):
            try:
                checkpoints.get(session, checkpoint_id)
            except RowMissing:
                raise PageNotFound(what="checkpoint", key=checkpoint_id) from None
        ours, theirs, early, apart = alike_counts(session, one, other)
    difference = difference_record(ours, theirs)
    return {"one": one, "other": other, **difference, "ended_early": early, "not_comparable": apart}


def rates_page(
    session: Session, asked: RatesAsked, *, grouped: Callable[..., Grouped] = success_counts.grouped
) -> Page:
    """A page of what was asked for, and the cursor of the page after it, if there is one.

    Args:
        grouped: adds counts up, or knows what that gave.

    Raises:
        RequestInvalid: it shall be kept apart by something that there is not.
        CursorInvalid: the cursor is not one that this function returned.
    """
    if asked.by is None:
        return _of_iterations(session, asked)
    return _groups(session, asked, grouped)


def _of_iterations(session: Session, asked: RatesAsked) -> Page:
    rows, next_cursor = iterations.list_numbers(
        session, lineage=asked.lineage, cursor=asked.cursor, limit=asked.limit
    )
    ids = [iteration_id for iteration_id, _ in rows]
    told, rules = success_of(session, ids), end_rules.of_iterations(session, ids)
    items: list[dict[str, Any]] = []
    for iteration_id, number in rows:
        by_task = {task: success_rate(*count) for task, count in told[iteration_id].items()}
        early = {task: rules[iteration_id].ends_early(task) for task in by_task}
        items += [
            {"iteration": number, "task": task, "may_end_early": early[task], **rate}
            for task, rate in by_task.items()
        ]
        if by_task:
            alike = next(iter(early.values())) if len(set(early.values())) == 1 else None
            overall = overall_success(by_task)
            items.append({"iteration": number, "task": None, "may_end_early": alike, **overall})
    return items, next_cursor


def _groups(session: Session, asked: RatesAsked, grouped: Callable[..., Grouped]) -> Page:
    query = CountQuery(by=asked.apart, lineage=asked.lineage, since=asked.since, until=asked.until)
    found, next_cursor = grouped(session, query, cursor=asked.cursor, limit=asked.limit)
    z = simultaneous_z(found[0].groups) if found and asked.simultaneous else Z_95
    return [rate_record(counted, z=z) for counted in found], next_cursor
