"""Verdicts on episodes: added, never changed; the best source counts, of equals the newest.

A verdict without an answer (`success` None) is kept but never hides one that has an answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.errors import LabelSourceInvalid, RowMissing
from storage.success_counts import refresh
from storage.tables import EpisodeRow, LabelRow
from storage.verdict_order import SOURCES, best_first

__all__ = [
    "SOURCES",
    "Verdict",
    "append",
    "append_all",
    "effective_label",
    "effective_labels",
    "history",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a judge says about an episode, and who it is; confidence is a probability or None."""

    success: bool | None
    source: str
    at: datetime
    judge: str | None = None
    answer: str | None = None
    confidence: float | None = None


def append(session: Session, episode_id: str, verdict: Verdict, *, now: datetime) -> LabelRow:
    """Add a verdict.

    Raises:
        LabelSourceInvalid: not one of SOURCES.
        RowMissing: there is no such episode.
    """
    return append_all(session, episode_id, [verdict], now=now)[0]


def append_all(
    session: Session, episode_id: str, verdicts: Sequence[Verdict], *, now: datetime
) -> list[LabelRow]:
    """Add verdicts on one episode, and count its task and iteration again; also where there is none to add.

    Raises:
        LabelSourceInvalid: one is not of SOURCES.
        RowMissing: there is no such episode.
    """
    for verdict in verdicts:
        if verdict.source not in SOURCES:
            raise LabelSourceInvalid(source=verdict.source, known=SOURCES)
    episode = session.get(EpisodeRow, episode_id)
    if episode is None:
        raise RowMissing(kind="episode", row_id=episode_id)
    rows = []
    for verdict in verdicts:
        rows.append(_row(episode_id, verdict, now=now))
        session.add(rows[-1])
        session.flush()  # one by one: of equals, the one that was given last counts
    if episode.origin == "collect":
        refresh(session, iteration_id=episode.iteration_id, task_id=episode.task_id)
    return rows


def _row(episode_id: str, verdict: Verdict, *, now: datetime) -> LabelRow:
    return LabelRow(
        episode_id=episode_id,
        success=verdict.success,
        source=verdict.source,
        judge=verdict.judge,
        answer=verdict.answer,
        confidence=verdict.confidence,
        labelled_at=verdict.at,
        recorded_at=now,
    )


def effective_label(session: Session, episode_id: str) -> LabelRow | None:
    """The verdict that counts, or None when nobody could tell."""
    return effective_labels(session, [episode_id]).get(episode_id)


def effective_labels(session: Session, episode_ids: Iterable[str]) -> dict[str, LabelRow]:
    """The verdict that counts, for each episode that has one."""
    ranked = _ranked(LabelRow.episode_id.in_(list(episode_ids)))
    query = sa.select(LabelRow).join(ranked, ranked.c.id == LabelRow.id).where(ranked.c.rank == 1)
    return {row.episode_id: row for row in session.scalars(query)}


def history(session: Session, episode_id: str) -> list[LabelRow]:
    """Every verdict on one episode, in the order they came in."""
    query = sa.select(LabelRow).where(LabelRow.episode_id == episode_id).order_by(LabelRow.id)
    return list(session.scalars(query))


def ids_of(session: Session, episode_ids: Iterable[str]) -> dict[str, list[int]]:
    """The ids of all verdicts on each of these episodes, in the order they came in."""
    query = sa.select(LabelRow.episode_id, LabelRow.id).where(LabelRow.episode_id.in_(list(episode_ids)))
    found: dict[str, list[int]] = {}
    for episode_id, label_id in session.execute(query.order_by(LabelRow.id)):
        found.setdefault(episode_id, []).append(label_id)
    return found


def _ranked(*which: sa.ColumnElement[bool]) -> sa.Subquery:
    """Label ids with their rank within their episode; rank 1 counts."""
    rank = sa.func.row_number().over(partition_by=LabelRow.episode_id, order_by=best_first())
    query = sa.select(LabelRow.id, rank.label("rank")).where(LabelRow.success.is_not(None), *which)
    return query.subquery()
