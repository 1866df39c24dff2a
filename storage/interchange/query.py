"""Which episodes leave the store: `key=value` terms as people type them, and the episodes that answer.

Times are those of the recording, not of its commitment. What an episode is worth for training is not asked
here; see `replay`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from storage.interchange.errors import QueryInvalid
from storage.tables import CheckpointRow, EpisodeRow, IterationRow, LabelRow
from storage.verdict_order import effective_success

KEYS: Final = (
    *("task", "iteration", "policy", "station", "success", "origin", "held_out", "since", "until"),
)
SEVERAL: Final = {  # keys of which a query can hold more than one value, and where
    "task": "tasks",
    "iteration": "iterations",
    "policy": "policies",
    "station": "stations",
    "origin": "origins",
}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An episode as it stood when it was asked for; `verdicts` are ids of labels, the first one first."""

    episode_id: str
    digest: str
    held_out: bool
    verdicts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an export takes: its question in words, and the answer in the order of commitment."""

    query: str
    episodes: tuple[Standing, ...]

    def missing_of(self, other: Wanted) -> int:
        """How many of another one's episodes are not among these."""
        known = {each.episode_id for each in self.episodes}
        return sum(each.episode_id not in known for each in other.episodes)


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
    name = SEVERAL[key]
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


def wanted_by(session: Session, query: ExportQuery) -> Wanted:
    """The episodes of `episode_ids`, as they stand now; there may be none."""
    return Wanted(query=spoken(query), episodes=standing(session, query))


def standing(session: Session, query: ExportQuery) -> tuple[Standing, ...]:
    """How the episodes of `episode_ids` stand now."""
    answering = sa.select(EpisodeRow.id).where(*_conditions(query))
    label = aliased(LabelRow)  # the conditions ask for labels too
    labels = sa.select(label.episode_id, label.id).where(label.episode_id.in_(answering)).order_by(label.id)
    ids: dict[str, list[int]] = {}
    for episode_id, label_id in session.execute(labels):
        ids.setdefault(episode_id, []).append(label_id)
    columns = (EpisodeRow.id, EpisodeRow.manifest_sha256, EpisodeRow.held_out)
    statement = sa.select(*columns).where(*_conditions(query))
    found = session.execute(statement.order_by(EpisodeRow.committed_at, EpisodeRow.id))
    return tuple(
        Standing(episode_id=each, digest=digest, held_out=held_out, verdicts=tuple(ids.get(each, ())))
        for each, digest, held_out in found
    )


def spoken(query: ExportQuery) -> str:
    """A query as `parse_query` takes it; equal questions have equal words, the widest has none."""
    terms = []
    for key in KEYS:
        value: Any = getattr(query, SEVERAL.get(key, key))
        values = sorted(set(value)) if isinstance(value, tuple) else [value]
        terms += [f"{key}={_word(each)}" for each in values if each is not None]
    return " ".join(terms)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


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
