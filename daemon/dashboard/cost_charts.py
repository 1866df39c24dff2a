"""What iterations cost, as charts: hours of robots, the judge's requests and money."""

from collections.abc import Mapping, Sequence
from typing import Any

from daemon.dashboard.charts import Chart, Point, Series
from daemon.ledger import HOUR_S

KINDS = (  # key, title, field of a record of the ledger, its value of one unit, tone
    ("robot-hours", "Robot hours", "robot_seconds", HOUR_S, "a"),
    ("judge-requests", "Requests to the judge", "judge_requests", 1.0, "b"),
    ("judge-usd", "Cost of the judge, USD", "judge_usd", 1.0, "d"),
)


def cost_charts(costs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """One chart for everything that was used at all, from zero; by iteration.

    Args:
        costs: as `daemon.ledger.ledger_of` gives them.
    """
    charts = []
    for key, title, name, unit, tone in KINDS:
        used = sorted((cost["iteration"], cost[name] / unit) for cost in costs)
        most = max((value for _, value in used), default=0.0)
        if most > 0:
            points = [Point(x=x, y=y, says=f"iteration {x}: {y:.3g}") for x, y in used]
            series = [
                Series(name=title, points=points, tone=tone),
                Series(name=title, points=points, tone=tone, dots=True),
            ]
            charts.append(Chart(key=key, title=title, series=series, span=(0.0, most)))
    return charts
