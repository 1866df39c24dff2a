"""Progress: is the policy really better? Real success with intervals, imagined beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from daemon.api.pages import Cursor, OfLineage
from daemon.api.services import Wired
from daemon.dashboard.charts import Chart, Mark, Point, Series
from daemon.dashboard.cost_charts import cost_charts
from daemon.dashboard.lineage import lineage_shown
from daemon.dashboard.page import PageRoute, render
from daemon.iteration import success_rate
from daemon.ledger import ledger_of, total_of
from storage import end_rules, iterations, overviews, success_counts, trials
from storage.end_rules import EndRule
from storage.success_counts import PolicyCount
from storage.tables import TrialRow, TrustReportRow

router = APIRouter(route_class=PageRoute)

SHOWN = 20  # iterations on one page; with two policies and eight tasks it has 180 kB
SHARE = (0.0, 1.0)
Named = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One policy at one task in one iteration; `goes_on` is None where no other policy was tried."""

    iteration: int
    task: str
    rate: Mapping[str, Any]
    policy: str | None
    goes_on: bool | None
    imagined: float | None
    early: bool  # a judge could end its episodes: not comparable with those of full length

    @property
    def says(self) -> str:
        """The row in a sentence, for the dot that stands for it."""
        role = {True: ", goes on", False: ", does not go on", None: ""}[self.goes_on]
        count = f"{self.rate['successes']} of {self.rate['episodes']}"
        return f"iteration {self.iteration}: {count}{role}{self.ended}"

    @property
    def ended(self) -> str:
        """What is to be said of a rate that is not comparable with the others."""
        return ", ended where a judge saw success" if self.early else ""


@router.get("/progress")
def show_progress(
    request: Request, services: Wired, cursor: Cursor = None, lineage: OfLineage = None
) -> Response:
    """A page of a lineage's iterations, newest first in the table and from left to right in the charts."""
    with services.database.read() as session:
        shown, others = lineage_shown(session, lineage)
        named, next_cursor = iterations.list_numbers(session, lineage=shown, cursor=cursor, limit=SHOWN)
        rows = rows_of(session, named)
        decisions = overviews.trials_of(session, [iteration_id for iteration_id, _ in named])
        trust = overviews.trust_of(session, [iteration_id for iteration_id, _ in named])
        costs, total = ledger_of(session, named), total_of(session, named) if named else None
    numbers = dict(named)
    return render(
        request,
        "progress.html",
        lineage=shown,
        others=others,
        charts=[*success_charts(rows, marks_of(decisions, numbers)), *optimism_charts(trust, numbers)],
        rows=rows,
        decisions=[(numbers[str(row.iteration_id)], row) for row in reversed(decisions)],
        costs=costs,
        cost_charts=cost_charts(costs),
        total=total,
        next_cursor=next_cursor,
    )


def rows_of(session: Session, named: Sequence[Named]) -> list[Row]:
    """What each policy did at each task, newest iteration first."""
    ids = [iteration_id for iteration_id, _ in named]
    goes_on, rules = trials.policies_that_went_on(session, ids), end_rules.of_iterations(session, ids)
    outcomes = overviews.outcomes_of(session, ids)
    rows = [
        _row(
            count,
            rules[count.iteration_id],
            goes_on=goes_on.get(count.iteration_id),
            outcome=outcomes[count.iteration_id],
        )
        for count in success_counts.of_iterations(session, ids)
        if count.judged
    ]
    return sorted(rows, key=lambda row: (-row.iteration, row.task, row.goes_on is False))


def success_charts(rows: Sequence[Row], marks: Sequence[Mark]) -> list[Chart]:
    """One chart per task: real success with its interval, and what the policy imagined of itself."""
    charts = []
    for place, task in enumerate(sorted({row.task for row in rows})):
        own = sorted((row for row in rows if row.task == task), key=lambda row: row.iteration)
        imagined = {row.iteration: row.imagined for row in own if row.imagined is not None}
        series = [
            Series(name="real success, with its interval", points=[_dot(row) for row in own], dots=True),
            Series(
                name="imagined after the update",
                points=[Point(x=x, y=y) for x, y in sorted(imagined.items())],
                tone="b",
            ),
        ]
        charts.append(
            Chart(key=f"success-{place}", title=f"Success at {task}", series=series, span=SHARE, marks=marks)
        )
    return charts


def optimism_charts(trust: Sequence[TrustReportRow], numbers: Mapping[str, int]) -> list[Chart]:
    """Imagined minus real success on held-out episodes; above 0 it promises what will not happen."""
    points = [
        Point(x=numbers[str(row.iteration_id)], y=row.optimism) for row in trust if row.optimism is not None
    ]
    if not points:
        return []
    series = Series(name="imagined minus real success", points=sorted(points, key=lambda p: p.x), tone="d")
    return [Chart(key="optimism", title="Optimism of the world model", series=[series], span=(-1.0, 1.0))]


def marks_of(decisions: Sequence[TrialRow], numbers: Mapping[str, int]) -> list[Mark]:
    """What was decided about policies, where it was."""
    return [
        Mark(x=numbers[str(row.iteration_id)], says=row.decision.replace("_", " "))
        for row in decisions
        if row.decision != trials.UNDECIDED
    ]


def _row(count: PolicyCount, rule: EndRule, *, goes_on: str | None, outcome: Mapping[str, Any]) -> Row:
    imagined = (outcome.get("imagined_success") or {}).get(count.task_id) or {}
    return Row(
        iteration=rule.number,
        task=count.task_id,
        early=rule.ends_early(count.task_id),
        rate=success_rate(count.successes, count.judged),
        policy=count.checkpoint_id,
        goes_on=None if goes_on is None else count.checkpoint_id == goes_on,
        imagined=imagined.get("last"),
    )


def _dot(row: Row) -> Point:
    return Point(
        x=row.iteration,
        y=row.rate["successes"] / row.rate["episodes"],
        low=row.rate["wilson_low"],
        high=row.rate["wilson_high"],
        hollow=row.goes_on is False,
        says=row.says,
    )
