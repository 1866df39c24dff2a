"""Trust: how far world models, judges and stations may be believed, and what is alarming."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from daemon.api.alarms import list_alarms
from daemon.api.pages import Cursor, OfLineage
from daemon.api.services import Wired
from daemon.dashboard.charts import Chart, Point, Series
from daemon.dashboard.lineage import lineage_shown
from daemon.dashboard.page import PageRoute, render
from daemon.statistics import right_of_known
from storage import iterations, overviews, station_health
from storage.tables import TrustReportRow

router = APIRouter(route_class=PageRoute)

SHOWN = 30  # iterations on one page
POLICIES_WATCHED = 10
SHARE = (0.0, 1.0)
CENTRED = (-1.0, 1.0)


def closed_loop(row: TrustReportRow) -> float | None:
    """Optimism of the policy in imagination; None in older reports, or where nobody acted."""
    optimism = ((row.report.get("closed_loop") or {}).get("overall") or {}).get("optimism")
    return None if optimism is None else float(optimism)


Measured = Callable[[TrustReportRow], float | None]
MEASURES: Sequence[tuple[str, str, Measured, tuple[float, float] | None]] = (
    ("agreement", "Imagined ends that agree with real ones", lambda row: row.agreement, SHARE),
    ("optimism", "Optimism: imagined minus real success", lambda row: row.optimism, CENTRED),
    ("closed", "The same of the policy itself, from the same starts", closed_loop, CENTRED),
    ("horizon", "Steps that may be imagined", lambda row: float(row.horizon), None),
    ("sensitivity", "Sensitivity to actions; 1 is deaf", lambda row: row.sensitivity, None),
)


@router.get("/trust")
def show_trust(
    request: Request, services: Wired, cursor: Cursor = None, lineage: OfLineage = None
) -> Response:
    """The trust meter and the judge's audit of a lineage, and the alarms and stations of all."""
    with services.database.read() as session:
        shown, others = lineage_shown(session, lineage)
        named, next_cursor = iterations.list_numbers(session, lineage=shown, cursor=cursor, limit=SHOWN)
        ids, numbers = [iteration_id for iteration_id, _ in named], dict(named)
        reports = overviews.trust_of(session, ids)
        outcomes = overviews.outcomes_of(session, ids)
        stations = station_health.of_stations(session)
    audits = [
        (numbers[iteration_id], task, own)
        for iteration_id in ids
        for task, own in sorted((outcomes[iteration_id].get("judge_audit") or {}).items())
    ]
    return render(
        request,
        "trust.html",
        lineage=shown,
        others=others,
        charts=[*measure_charts(reports, numbers), *audit_charts(audits)],
        reports=[(numbers[str(row.iteration_id)], row) for row in reversed(reports)],
        closed_loop=closed_loop,
        audits=audits,
        stations=stations,
        newest=station_health.NEWEST,
        alarms=list_alarms(services, POLICIES_WATCHED)["items"],
        next_cursor=next_cursor,
    )


def measure_charts(reports: Sequence[TrustReportRow], numbers: Mapping[str, int]) -> list[Chart]:
    """One chart per measure that was ever taken."""
    charts = []
    for key, title, measure, span in MEASURES:
        taken = [(numbers[str(row.iteration_id)], measure(row)) for row in reports]
        points = [Point(x=x, y=y) for x, y in sorted(taken, key=lambda one: one[0]) if y is not None]
        if points:
            series = [Series(name=title, points=points), _dots(title, points)]
            charts.append(Chart(key=key, title=title, series=series, span=span))
    return charts


def audit_charts(audits: Sequence[tuple[int, str, Mapping[str, Any]]]) -> list[Chart]:
    """How often the judge says of real held-out ends what their label says, all tasks together."""
    counts: dict[int, tuple[int, int]] = {}
    for number, _, own in audits:
        before, here = counts.get(number, (0, 0)), right_of_known(own)
        counts[number] = (before[0] + here[0], before[1] + here[1])
    points = [Point(x=number, y=right / known) for number, (right, known) in sorted(counts.items()) if known]
    if not points:
        return []
    title = "Verdicts of the judge that agree with labels"
    series = [Series(name=title, points=points, tone="c"), _dots(title, points, tone="c")]
    return [Chart(key="judge", title=title, series=series, span=SHARE)]


def _dots(title: str, points: Sequence[Point], tone: str = "a") -> Series:
    """The same points as dots, so that a single one is seen."""
    return Series(name=title, points=points, tone=tone, dots=True)
