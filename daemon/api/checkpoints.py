"""Saved world models, policies and judges, each with its parent."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query

from daemon.api.pages import Cursor, Limit
from daemon.api.schemas import CheckpointPage
from daemon.api.services import Wired
from daemon.iteration import iteration_numbers
from storage import checkpoints
from storage.tables import CheckpointRow

router = APIRouter(prefix="/v1/checkpoints", tags=["checkpoints"])

Kind = Annotated[str | None, Query(max_length=40, description="world_model, policy or judge")]


@router.get("", response_model=CheckpointPage)
def list_checkpoints(
    services: Wired, limit: Limit = 50, cursor: Cursor = None, kind: Kind = None
) -> dict[str, Any]:
    """Give a page of checkpoints, newest first."""
    with services.database.read() as session:
        rows, next_cursor = checkpoints.list_checkpoints(session, kind=kind, cursor=cursor, limit=limit)
        numbers = iteration_numbers(session, {row.iteration_id for row in rows if row.iteration_id})
    return {"items": [_summary(row, numbers) for row in rows], "next_cursor": next_cursor}


def _summary(row: CheckpointRow, numbers: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "number": row.number,
        "parent_id": row.parent_id,
        "iteration": numbers.get(row.iteration_id or ""),
        "sha256": row.sha256,
        "size_bytes": row.size_bytes,
        "spec_digest": row.spec_digest,
        "card": row.card,
        "created_at": row.created_at,
    }
