"""Iterations: the list of them, and everything about one: phases, curves, gates, changes, lineage."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from daemon.api.pages import Cursor, Number
from daemon.api.services import Services, Wired
from daemon.curves import curves_path, read_curves
from daemon.dashboard.ancestry import Ancestry, ancestry_of
from daemon.dashboard.charts import Chart, Series, points_of
from daemon.dashboard.page import PageRoute, render
from daemon.iteration import film_strips, find_iteration, iteration_record, iteration_summary
from daemon.iteration_diff import iteration_diff
from daemon.iteration_manifest import iteration_manifest
from storage import iterations, phase_runs
from storage.canonical import json_digest
from storage.lineages import names
from storage.tables import IterationRow, PhaseRunRow

router = APIRouter(route_class=PageRoute)

LISTED = 50
MOST_CURVES = 12  # of one phase; all of them are at /v1/iterations/{n}/curves


@router.get("/iterations")
def list_iterations(request: Request, services: Wired, cursor: Cursor = None) -> Response:
    """Iterations, newest first."""
    with services.database.read() as session:
        rows, next_cursor = iterations.list_iterations(session, cursor=cursor, limit=LISTED)
        several = len(names(session)) > 1
    shown = [iteration_summary(row) for row in rows]
    return render(request, "iterations.html", rows=shown, several=several, next_cursor=next_cursor)


@router.get("/iterations/{number}")
def show_iteration(request: Request, number: Number, services: Wired) -> Response:
    """One iteration."""
    with services.database.read() as session:
        row = find_iteration(session, number)
        record = iteration_record(session, row)
        shown: dict[str, Any] = {
            "iteration": record,
            "diff": difference(session, row),
            "manifest": manifest_facts(session, row),
            "strips": sorted(film_strips(session, row)),
            "several": len(names(session)) > 1,
            "ancestries": ancestries(session, row, used=record["checkpoints"]),
        }
        runs = phase_runs.of_iteration(session, row.id)
    return render(request, "iteration.html", charts=curve_charts(services, runs), **shown)


def difference(session: Session, row: IterationRow) -> dict[str, Any] | None:
    """What differs from the iteration before of its lineage; None for the first."""
    before, _ = iterations.list_iterations(session, lineage=row.lineage, cursor=str(row.number), limit=1)
    return iteration_diff(session, before[0], row) if before else None


def manifest_facts(session: Session, row: IterationRow) -> dict[str, Any]:
    """The manifest's digest, and for each phase when it was written and what it read."""
    document = iteration_manifest(session, row)
    phases: Mapping[str, Any] = document["phases"]
    return {
        "sha256": json_digest(document, what=f"the manifest of iteration {row.number}"),
        "phases": {
            name: {
                "inputs_sha256": phase["inputs_sha256"],
                "episodes": len(phase["inputs"].get("episodes", ())),
                "checkpoints": phase["inputs"].get("checkpoints", {}),
            }
            for name, phase in phases.items()
        },
    }


def ancestries(
    session: Session, row: IterationRow, *, used: Mapping[str, Mapping[str, str]]
) -> list[Ancestry]:
    """Where the newest checkpoint of each kind that this iteration made or read comes from.

    Args:
        used: as the iteration's record has them.
    """
    newest = {**used["read"], **used["rejected"], **used["made"]}
    return [ancestry_of(session, newest[kind], iteration_id=row.id) for kind in sorted(newest)]


def curve_charts(services: Services, runs: Sequence[PhaseRunRow]) -> dict[str, list[Chart]]:
    """The training curves of each phase; of several attempts the last counts."""
    folder = services.settings.data_dir
    last = {run.phase: read_curves(curves_path(folder, run.id)) for run in runs}
    return {
        phase: [
            Chart(
                key=f"{phase}-{place}",
                title=name,
                series=[Series(name=name, points=points_of(points))],
                across="update" if phase != "collect" else "episode",
            )
            for place, (name, points) in enumerate(sorted(curves.items())[:MOST_CURVES])
            if len(points) > 1
        ]
        for phase, curves in last.items()
        if curves
    }
