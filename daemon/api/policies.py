"""Policies, with the lineages whose champion each is."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session

from daemon.api.checkpoints import CheckpointId, found_of_kind, page_of
from daemon.api.lab_schemas import Policy, PolicyPage
from daemon.api.pages import Cursor, Limit, OfLineage
from daemon.api.services import Wired
from daemon.checkpoint_record import checkpoint_record
from storage import adoption
from storage.tables import CheckpointRow

router = APIRouter(prefix="/v1/policies", tags=["policies"])

KIND = "policy"


@router.get("", response_model=PolicyPage)
def list_policies(
    services: Wired, limit: Limit = 50, cursor: Cursor = None, lineage: OfLineage = None
) -> dict[str, Any]:
    """Give a page of policies, newest first; those of no lineage are every one's."""
    with services.database.read() as session:
        page = page_of(session, KIND, lineage=lineage, cursor=cursor, limit=limit)
        champions = adoption.champions(session)
    for item in page["items"]:
        item["champion_of"] = lineages_of(item["id"], champions)
    return page


@router.get("/{checkpoint_id}", response_model=Policy)
def get_policy(checkpoint_id: CheckpointId, services: Wired) -> dict[str, Any]:
    """Give one policy."""
    with services.database.read() as session:
        return policy_record(session, found_of_kind(session, KIND, checkpoint_id))


def policy_record(session: Session, row: CheckpointRow) -> dict[str, Any]:
    """A policy as it is answered."""
    champions = adoption.champions(session)
    return {**checkpoint_record(session, row), "champion_of": lineages_of(row.id, champions)}


def lineages_of(checkpoint_id: str, chosen: dict[str, CheckpointRow]) -> list[str]:
    """The lineages that have chosen this checkpoint."""
    return [name for name, row in chosen.items() if row.id == checkpoint_id]
