"""Trained judges, with the lineages that each is asked by. Models behind an endpoint are no checkpoints."""

from typing import Any

from fastapi import APIRouter

from daemon.api.checkpoints import CheckpointId, found_of_kind, page_of
from daemon.api.lab_schemas import Judge, JudgePage
from daemon.api.pages import Cursor, Limit, OfLineage
from daemon.api.policies import lineages_of
from daemon.api.services import Wired
from daemon.checkpoint_record import checkpoint_record
from storage import adoption

router = APIRouter(prefix="/v1/judges", tags=["judges"])

KIND = "judge"


@router.get("", response_model=JudgePage)
def list_judges(
    services: Wired, limit: Limit = 50, cursor: Cursor = None, lineage: OfLineage = None
) -> dict[str, Any]:
    """Give a page of judges, newest first; those of no lineage are every one's."""
    with services.database.read() as session:
        page = page_of(session, KIND, lineage=lineage, cursor=cursor, limit=limit)
        current = adoption.newest(session, KIND)
    for item in page["items"]:
        item["current_of"] = lineages_of(item["id"], current)
    return page


@router.get("/{checkpoint_id}", response_model=Judge)
def get_judge(checkpoint_id: CheckpointId, services: Wired) -> dict[str, Any]:
    """Give one judge."""
    with services.database.read() as session:
        record = checkpoint_record(session, found_of_kind(session, KIND, checkpoint_id))
        current = adoption.newest(session, KIND)
    return {**record, "current_of": lineages_of(checkpoint_id, current)}
