"""Saved world models, policies and judges, each with its parent."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from sqlalchemy.orm import Session

from daemon.api.etags import TaggedRoute
from daemon.api.kept_answers import keeps
from daemon.api.pages import Cursor, Limit, OfLineage
from daemon.api.schemas import CheckpointPage, CheckpointSummary, TrustReports
from daemon.api.services import Wired
from daemon.checkpoint_record import checkpoint_record, summary_of
from daemon.errors import PageNotFound
from daemon.iteration import iteration_numbers
from storage import checkpoints, trust_reports
from storage.errors import RowMissing
from storage.tables import CheckpointRow, TrustReportRow

router = APIRouter(prefix="/v1/checkpoints", tags=["checkpoints"], route_class=TaggedRoute)

Kind = Annotated[str | None, Query(max_length=40, description="world_model, policy or judge")]

CheckpointId = Annotated[str, Path(max_length=40)]


@router.get("", response_model=CheckpointPage, dependencies=[keeps()])
def list_checkpoints(
    services: Wired, limit: Limit = 50, cursor: Cursor = None, kind: Kind = None, lineage: OfLineage = None
) -> dict[str, Any]:
    """Give a page of checkpoints, newest first; those of no lineage are every one's."""
    with services.database.read() as session:
        return page_of(session, kind, lineage=lineage, cursor=cursor, limit=limit)


@router.get("/{checkpoint_id}", response_model=CheckpointSummary)
def get_checkpoint(checkpoint_id: CheckpointId, services: Wired) -> dict[str, Any]:
    """Give one checkpoint."""
    with services.database.read() as session:
        return checkpoint_record(session, found_of_kind(session, None, checkpoint_id))


@router.get("/{checkpoint_id}/trust", response_model=TrustReports)
def get_trust(checkpoint_id: CheckpointId, services: Wired) -> dict[str, Any]:
    """Give every measurement of how far a world model may be trusted, newest first."""
    with services.database.read() as session:
        try:
            rows = trust_reports.of_checkpoint(session, checkpoint_id)
        except RowMissing:
            raise PageNotFound(what="checkpoint", key=checkpoint_id) from None
        numbers = iteration_numbers(session, {row.iteration_id for row in rows if row.iteration_id})
    return {"items": [_trust(row, numbers) for row in rows]}


def page_of(
    session: Session, kind: str | None, *, lineage: str | None, cursor: str | None, limit: int
) -> dict[str, Any]:
    """A page of checkpoints of one kind, or of all."""
    rows, next_cursor = checkpoints.list_checkpoints(
        session, kind=kind, lineage=lineage, cursor=cursor, limit=limit
    )
    numbers = iteration_numbers(session, {row.iteration_id for row in rows if row.iteration_id})
    return {"items": [summary_of(row, numbers) for row in rows], "next_cursor": next_cursor}


def found_of_kind(session: Session, kind: str | None, checkpoint_id: str) -> CheckpointRow:
    """One checkpoint of this kind, or of any.

    Raises:
        PageNotFound: there is none with this id.
    """
    row = session.get(CheckpointRow, checkpoint_id)
    if row is None or kind not in {None, row.kind}:
        raise PageNotFound(what=kind or "checkpoint", key=checkpoint_id)
    return row


def _trust(row: TrustReportRow, numbers: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": row.id,
        "checkpoint_id": row.checkpoint_id,
        "iteration": numbers.get(row.iteration_id or ""),
        "verdict": row.verdict,
        "episodes": row.episodes,
        "horizon": row.horizon,
        "agreement": row.agreement,
        "optimism": row.optimism,
        "sensitivity": row.sensitivity,
        "report": row.report,
        "measured_at": row.measured_at,
    }
