"""What is told of a saved checkpoint, by the API and by the commands that work on the store itself."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from daemon.iteration import iteration_numbers
from daemon.settings import Settings
from daemon.stores import open_database
from storage import checkpoints
from storage.tables import CheckpointRow


def checkpoint_record(session: Session, row: CheckpointRow) -> dict[str, Any]:
    """A checkpoint as it is answered."""
    return summary_of(row, iteration_numbers(session, [row.iteration_id] if row.iteration_id else []))


def summary_of(row: CheckpointRow, numbers: Mapping[str, int]) -> dict[str, Any]:
    """The same in a list; `numbers` are those of iterations, by their ids."""
    return {
        "id": row.id,
        "kind": row.kind,
        "number": row.number,
        "parent_id": row.parent_id,
        "iteration": numbers.get(row.iteration_id or ""),
        "lineage": row.lineage,
        "sha256": row.sha256,
        "size_bytes": row.size_bytes,
        "spec_digest": row.spec_digest,
        "card": row.card,
        "created_at": row.created_at,
        "retired_at": row.retired_at,
    }


def kept_record(settings: Settings, checkpoint_id: str) -> dict[str, Any]:
    """A checkpoint of the store that the settings name.

    Raises:
        RowMissing: there is none with this id.
    """
    database = open_database(settings)
    try:
        with database.read() as session:
            return checkpoint_record(session, checkpoints.get(session, checkpoint_id))
    finally:
        database.dispose()
