"""Which episodes a training or a measurement takes, as one frozen question."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.lineages import in_lineage
from storage.tables import EpisodeRow


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeQuery:
    """What to take; None means "any". Runs that teach a world model nothing are left out by default.

    Retired episodes are never taken: their files are gone. With `unowned` a lineage also gets what no
    iteration collected, as imported episodes; without, only main does.
    """

    origin: str | None = None
    tasks: Sequence[str] | None = None
    iteration_ids: Sequence[str] | None = None
    lineage: str | None = None
    unowned: bool = False
    held_out: bool | None = None
    valid_for_world_model: bool | None = True
    limit: int | None = None
    newest_first: bool = True


def select(session: Session, query: EpisodeQuery) -> list[EpisodeRow]:
    """The episodes that answer the query, in order of commitment; equal times go by id."""
    statement = sa.select(EpisodeRow).where(*_conditions(query)).limit(query.limit)
    for column in (EpisodeRow.committed_at, EpisodeRow.id):
        statement = statement.order_by(column.desc() if query.newest_first else column.asc())
    return list(session.scalars(statement))


def _conditions(query: EpisodeQuery) -> list[sa.ColumnElement[bool]]:
    wanted: list[sa.ColumnElement[bool]] = [EpisodeRow.retired_at.is_(None)]
    if query.origin is not None:
        wanted.append(EpisodeRow.origin == query.origin)
    if query.tasks is not None:
        wanted.append(EpisodeRow.task_id.in_(list(query.tasks)))
    if query.iteration_ids is not None:
        wanted.append(EpisodeRow.iteration_id.in_(list(query.iteration_ids)))
    if query.lineage is not None:
        own = in_lineage(EpisodeRow.iteration_id, query.lineage)
        wanted.append(sa.or_(own, EpisodeRow.iteration_id.is_(None)) if query.unowned else own)
    if query.held_out is not None:
        wanted.append(EpisodeRow.held_out.is_(query.held_out))
    if query.valid_for_world_model is not None:
        wanted.append(EpisodeRow.valid_for_world_model.is_(query.valid_for_world_model))
    return wanted
