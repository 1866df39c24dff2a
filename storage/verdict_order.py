"""Which of several verdicts on an episode counts: the best source's, and of equals the newest."""

from typing import Any, Final

import sqlalchemy as sa

from storage.tables import EpisodeRow, LabelRow

SOURCES: Final = ("human", "sim_predicate", "classifier", "vlm")  # most trusted first


def best_first() -> tuple[sa.ColumnElement[Any], ...]:
    """What labels of one episode are ordered by, so that the one that counts is the first with an answer."""
    trust = sa.case({source: place for place, source in enumerate(SOURCES)}, value=LabelRow.source)
    return trust, LabelRow.labelled_at.desc(), LabelRow.id.desc()


def effective_success() -> sa.ScalarSelect[Any]:
    """For a query over episodes: success by the verdict that counts, null where nobody could tell."""
    return (
        sa.select(LabelRow.success)
        .where(LabelRow.episode_id == EpisodeRow.id, LabelRow.success.is_not(None))
        .order_by(*best_first())
        .limit(1)
        .scalar_subquery()
    )
