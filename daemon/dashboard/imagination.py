"""Imagination: what happened beside what a world model made of the same start and actions."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from daemon.api.pages import LARGEST_NUMBER
from daemon.api.services import Wired
from daemon.dashboard.charts import Chart, Mark, Series, points_of
from daemon.dashboard.page import PageRoute, render
from daemon.errors import PageNotFound
from daemon.iteration import find_iteration
from storage import iterations, overviews

router = APIRouter(route_class=PageRoute)

LOOKED_AT = 100  # newest iterations, among which those that imagined something are offered

Wanted = Annotated[int | None, Query(ge=1, le=LARGEST_NUMBER)]


@router.get("/imagination")
def show_imagination(request: Request, services: Wired, iteration: Wanted = None) -> Response:
    """What one iteration imagined; without a number, the newest that did."""
    with services.database.read() as session:
        outcomes = imagining(session)
        number = iteration if iteration is not None else next(iter(outcomes), None)
        if number is not None and number not in outcomes:
            row = find_iteration(session, number)
            outcomes[number] = overviews.outcomes_of(session, [row.id])[row.id]
    shown = outcomes.get(number, {}) if number is not None else {}
    if iteration is not None and not imagined_something(shown):
        raise PageNotFound(what="imagination of iteration", key=iteration)
    trust = shown.get("trust")
    return render(
        request,
        "imagination.html",
        number=number,
        numbers=list(outcomes),
        strips=sorted(shown.get("film_strips") or {}),
        origins={task: own.get("episode_id") for task, own in (shown.get("film_strips") or {}).items()},
        along=along_charts(shown),
        charts=drift_charts(trust) if trust else [],
        trust=trust,
    )


def imagining(session: Session) -> dict[int, dict[str, Any]]:
    """Outcomes of the iterations that imagined something, newest first."""
    named, _ = iterations.list_numbers(session, limit=LOOKED_AT)
    outcomes = overviews.outcomes_of(session, [iteration_id for iteration_id, _ in named])
    return {number: outcomes[id_] for id_, number in named if imagined_something(outcomes[id_])}


def imagined_something(outcome: Mapping[str, Any]) -> bool:
    """Whether there is a film strip or a trust report to show."""
    return bool(outcome.get("film_strips") or outcome.get("trust"))


def along_charts(outcome: Mapping[str, Any]) -> dict[str, Chart]:
    """By task, what the judge would say if the episode of its strips ended at each frame."""
    horizon = (outcome.get("trust") or {}).get("horizon")
    charts = {}
    for place, (task, curves) in enumerate(sorted((outcome.get("judge_along") or {}).items())):
        series = [
            Series(name=name, points=points_of(list(enumerate(curves[name]))), tone=tone)
            for name, tone in (("real", "c"), ("imagined", "a"))
        ]
        charts[task] = Chart(
            key=f"along-{place}",
            title=f"The judge's probability of success, {task}",
            series=series,
            across="step",
            span=(0.0, 1.0),
            marks=[Mark(x=horizon, says="trusted until here")]
            if horizon is not None and horizon < len(curves["imagined"]) - 1
            else (),
        )
    return charts


def drift_charts(trust: Mapping[str, Any]) -> list[Chart]:
    """How imagination parts from held-out episodes, by step; the line is how far it is trusted.

    A report of another release may have fewer curves; what it has not is not drawn.
    """
    drift = {name: trust.get("drift", {}).get(name) or {} for name in ("psnr", "ssim", "latents")}
    curves: Sequence[tuple[str, str, Mapping[str, Any]]] = (
        ("psnr", "Likeness of pictures, PSNR in dB", {"imagined": drift["psnr"]}),
        ("ssim", "Likeness of pictures, SSIM", {"imagined": drift["ssim"]}),
        (
            "latents",
            "Error of latents, which have variance 1",
            {
                "own actions": drift["latents"],
                "another episode's actions": trust.get("shuffled_latents") or {},
            },
        ),
    )
    marks = [Mark(x=trust["horizon"], says="trusted until here")]
    return [
        Chart(
            key=f"drift-{key}",
            title=title,
            series=[
                Series(name=name, points=points_of(curve), tone=tone)
                for tone, (name, curve) in zip("ab", own.items(), strict=False)
            ],
            across="step",
            marks=marks if _reaches(own, trust["horizon"]) else (),
        )
        for key, title, own in curves
        if any(own.values())
    ]


def _reaches(curves: Mapping[str, Mapping[str, Any]], step: int) -> bool:
    return any(int(last) >= step for curve in curves.values() for last in curve)
