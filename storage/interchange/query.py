"""Which episodes leave the store: `key=value` terms as people type them, and the ids that answer.

Times are those of the recording, not of its commitment. What an episode is worth for training is not asked
here; see `replay`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.interchange.errors import NothingToExport, QueryInvalid
from storage.tables import CheckpointRow, EpisodeRow, IterationRow
from storage.verdict_order import effective_success

KEYS: Final = (
    *("task", "iteration", "policy", "station", "success", "origin", "held_out", "since", "until"),
)
VERDICTS: Final = {"yes": "yes", "true": "yes", "no": "no", "false": "no", "unknown": "unknown"}
STORED: Final = {"yes": True, "no": False, "unknown": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportQuery:
    """What to take; an empty tuple or None means "any".

    `success` is the verdict that counts: "yes", "no", or "unknown" where nobody could tell. `policies` are
    ids or numbers of policy checkpoints. `since` is inclusive, `until` is not.
    """

    tasks: tuple[str, ...] = ()
    iterations: tuple[int, ...] = ()
    policies: tuple[str, ...] = ()
    stations: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    success: str | None = None
    held_out: bool | None = None
    since: datetime | None = None
    until: datetime | None = None


def parse_query(terms: Sequence[str]) -> ExportQuery:
    """`["task=open_drawer success=yes", "task=close_drawer"]`; a key that is repeated widens.

    Raises:
        QueryInvalid: an unknown key, or a value that its key does not take.
    """
    query = ExportQuery()
    for term in (word for each in terms for word in re.split(r"[\s,]+", each) if word):
        key, separator, value = term.partition("=")
        if not separator or not value or key not in KEYS:
            raise QueryInvalid(term=term, expected=f"KEY=VALUE with a key of {', '.join(KEYS)}")
        query = _with(query, key, value)
    return query


def _with(query: ExportQuery, key: str, value: str) -> ExportQuery:
    if key == "iteration":
        if not value.isdecimal():
            raise QueryInvalid(term=f"{key}={value}", expected="the number of an iteration")
        return replace(query, iterations=(*query.iterations, int(value)))
    if key in {"since", "until"}:
        return _since_or_until(query, key, _instant(key, value))
    if key in {"success", "held_out"}:
        return _with_verdict(query, key, value)
    name = {"task": "tasks", "policy": "policies", "station": "stations", "origin": "origins"}[key]
    widened: Any = {name: (*getattr(query, name), value)}
    return replace(query, **widened)


def _with_verdict(query: ExportQuery, key: str, value: str) -> ExportQuery:
    verdict = VERDICTS.get(value.lower())
    if verdict is None or (key == "held_out" and verdict == "unknown"):
        expected = "yes, no or unknown" if key == "success" else "yes or no"
        raise QueryInvalid(term=f"{key}={value}", expected=expected)
    if key == "success":
        return replace(query, success=verdict)
    return replace(query, held_out=verdict == "yes")


def _since_or_until(query: ExportQuery, key: str, instant: datetime) -> ExportQuery:
    return replace(query, since=instant) if key == "since" else replace(query, until=instant)


def _instant(key: str, value: str) -> datetime:
    try:
        found = datetime.fromisoformat(value)
    except ValueError as error:
        expected = "a date or time as 2026-01-31 or 2026-01-31T12:00:00+00:00"
        raise QueryInvalid(term=f"{key}={value}", expected=expected) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def episode_ids(session: Session, query: ExportQuery) -> list[str]:
    """Ids of the episodes that answer, oldest commitment first; equal times go by id."""
    statement = sa.select(EpisodeRow.id).where(*_conditions(query))
    return list(session.scalars(statement.order_by(EpisodeRow.committed_at, EpisodeRow.id)))


def some_episode_ids(session: Session, query: ExportQuery) -> list[str]:
    """As `episode_ids`.

    Raises:
        NothingToExport: none answers.
    """
    found = episode_ids(session, query)
    if not found:
        asked = {name: value for name, value in asdict(query).items() if value not in ((), None)}
        raise NothingToExport(query=" ".join(f"{name}={value}" for name, value in asked.items()))
    return found


def _conditions(query: ExportQuery) -> list[sa.ColumnElement[bool]]:
    wanted: list[sa.ColumnElement[bool]] = [EpisodeRow.retired_at.is_(None)]  # others have no files
    columns = ((EpisodeRow.task_id, query.tasks), (EpisodeRow.station_id, query.stations))
    for column, values in (*columns, (EpisodeRow.origin, query.origins)):
        if values:
            wanted.append(column.in_(values))
    if query.iterations:
        numbered = sa.select(IterationRow.id).where(IterationRow.number.in_(query.iterations))
        wanted.append(EpisodeRow.iteration_id.in_(numbered))
    if query.policies:
        numbers = [int(each) for each in query.policies if each.isdecimal()]
        acted = sa.select(CheckpointRow.id).where(
            CheckpointRow.kind == "policy",
            sa.or_(CheckpointRow.number.in_(numbers), CheckpointRow.id.in_(query.policies)),
        )
        wanted.append(EpisodeRow.checkpoint_id.in_(acted))
    return wanted + _kinds(query)


def _kinds(query: ExportQuery) -> list[sa.ColumnElement[bool]]:
    wanted: list[sa.ColumnElement[bool]] = []
    if query.success is not None:
        wanted.append(effective_success().is_(STORED[query.success]))
    if query.held_out is not None:
        wanted.append(EpisodeRow.held_out.is_(query.held_out))
    if query.since is not None:
        wanted.append(EpisodeRow.started_at >= query.since)
    if query.until is not None:
        wanted.append(EpisodeRow.started_at < query.until)
    return wanted
