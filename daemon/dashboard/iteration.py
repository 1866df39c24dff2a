"""Iterations: the list of them, and everything about one: phases, curves, gates, changes, lineage."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from daemon.api.pages import Cursor, Number
from daemon.api.services import Wired
from daemon.dashboard.ancestry import Ancestry, ancestry_of
from daemon.dashboard.changes import tables_of
from daemon.dashboard.page import PageRoute, render
from daemon.dashboard.phase_curves import phase_curves
from daemon.iteration import film_strips, find_iteration, iteration_record, iteration_summary
from daemon.iteration_diff import Side, difference, side_of
from daemon.iteration_manifest import iteration_manifest
from storage import iterations, phase_runs
from storage.canonical import json_digest
from storage.lineages import names
from storage.tables import IterationRow

router = APIRouter(route_class=PageRoute)

LISTED = 50


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
        record, manifest = iteration_record(session, row), iteration_manifest(session, row)
        diff = difference_before(session, row, Side(manifest=manifest, standing=record))
        shown: dict[str, Any] = {
            "iteration": record,
            "diff": diff,
            "changes": tables_of(diff) if diff else [],
            "manifest": manifest_facts(manifest),
            "strips": sorted(film_strips(session, row)),
            "several": len(names(session)) > 1,
            "ancestries": ancestries(session, row, used=record["checkpoints"]),
        }
        runs = phase_runs.of_iteration(session, row.id)
    curves = phase_curves(services.settings.data_dir, runs)
    return render(request, "iteration.html", curves=curves, **shown)


def difference_before(session: Session, row: IterationRow, own: Side) -> dict[str, Any] | None:
    """What differs from the iteration before of its lineage; None for the first."""
    before, _ = iterations.list_iterations(session, lineage=row.lineage, cursor=str(row.number), limit=1)
    return difference(side_of(session, before[0]), own) if before else None


def manifest_facts(document: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's digest, and for each phase that of its inputs and what it read."""
    phases: Mapping[str, Any] = document["phases"]
    return {
        "sha256": json_digest(document, what=f"the manifest of iteration {document['number']}"),
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
    return [ancestry_of(session, newest[kind], seen_from=row) for kind in sorted(newest)]
