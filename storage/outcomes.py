"""What iterations came to: judged episodes, in the order in which they began, and finished phases."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import trials
from storage.cursors import number_of
from storage.success_tables import SuccessCountRow
from storage.tables import CheckpointRow, EpisodeRow, IterationRow, LabelRow, PhaseRunRow, TrialRow
from storage.verdict_order import effective_success

MOST_EPISODES = 20_000  # the newest ones that one question looks at


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedEpisode:
    """One valid episode with the verdict that counts."""

    id: str
    policy: str
    task: str
    station: str
    iteration: int
    started_at: datetime
    success: bool


def judged_episodes(
    session: Session, checkpoint_ids: Collection[str], *, until_iteration: int | None = None
) -> list[JudgedEpisode]:
    """Valid episodes with a verdict that these policies collected, in the order in which they began.

    Args:
        until_iteration: of this iteration and those before it alone.
    """
    success = effective_success().label("success")
    seen = (
        sa.select(
            EpisodeRow.id,
            EpisodeRow.checkpoint_id,
            EpisodeRow.task_id,
            EpisodeRow.station_id,
            IterationRow.number,
            EpisodeRow.started_at,
            success,
        )
        .join(IterationRow, IterationRow.id == EpisodeRow.iteration_id)
        .where(
            EpisodeRow.checkpoint_id.in_(checkpoint_ids),
            EpisodeRow.origin == "collect",
            EpisodeRow.valid_for_policy_eval.is_(True),
        )
    )
    if until_iteration is not None:
        seen = seen.where(IterationRow.number <= until_iteration)
    query = seen.order_by(EpisodeRow.started_at.desc(), EpisodeRow.id.desc()).limit(MOST_EPISODES)
    rows = session.execute(query).all()
    return [
        JudgedEpisode(
            id=row.id,
            policy=row.checkpoint_id,
            task=row.task_id,
            station=row.station_id,
            iteration=row.number,
            started_at=row.started_at,
            success=bool(row.success),
        )
        for row in reversed(rows)
        if row.success is not None
    ]


def newest_verdict(session: Session) -> tuple[int, int, int]:
    """Three numbers that are the same again only while no verdict and no judged episode has come or gone."""
    counted = sa.select(
        sa.func.coalesce(sa.func.sum(SuccessCountRow.judged), 0),
        sa.func.coalesce(sa.func.sum(SuccessCountRow.successes), 0),
    )
    judged, successes = session.execute(counted).one()
    newest = session.scalars(sa.select(sa.func.max(LabelRow.id))).one()
    return int(judged), int(successes), newest or 0


def policies_that_stayed(
    session: Session, *, cursor: str | None = None, limit: int = 10
) -> tuple[list[CheckpointRow], str | None]:
    """A page of the policies that acted in several iterations, newest first, and the next cursor.

    Raises:
        CursorInvalid: the cursor is not one that this function returned.
    """
    several = (
        sa.select(SuccessCountRow.checkpoint_id)
        .group_by(SuccessCountRow.checkpoint_id)
        .having(sa.func.count(sa.distinct(SuccessCountRow.iteration_id)) > 1)
    )
    query = sa.select(CheckpointRow).where(CheckpointRow.id.in_(several))
    if cursor is not None:
        query = query.where(CheckpointRow.number < number_of(cursor))
    rows = list(session.scalars(query.order_by(CheckpointRow.number.desc()).limit(limit + 1)))
    return rows[:limit], str(rows[limit - 1].number) if len(rows) > limit else None


def policies_of(session: Session, iteration_id: str) -> list[CheckpointRow]:
    """The policies that collected episodes of an iteration, the older one first."""
    acting = sa.select(SuccessCountRow.checkpoint_id).where(SuccessCountRow.iteration_id == iteration_id)
    query = sa.select(CheckpointRow).where(CheckpointRow.id.in_(acting)).order_by(CheckpointRow.number)
    return list(session.scalars(query))


def promoted_in(session: Session, checkpoint_ids: Collection[str]) -> dict[str, int]:
    """In which iteration's trial each policy was promoted, by number; those that never were are missing."""
    query = (
        sa.select(TrialRow.goes_on_id, sa.func.max(IterationRow.number))
        .join(IterationRow, IterationRow.id == TrialRow.iteration_id)
        .where(TrialRow.goes_on_id.in_(checkpoint_ids), TrialRow.decision == trials.PROMOTED)
        .group_by(TrialRow.goes_on_id)
    )
    return {policy: int(number) for policy, number in session.execute(query)}


def last_finished(session: Session, iteration_id: str, *, phase: str) -> PhaseRunRow | None:
    """The newest finished run of a phase in the lineage of this iteration, in it or in those before it."""
    own = sa.select(IterationRow.lineage, IterationRow.number).where(IterationRow.id == iteration_id)
    lineage, number = session.execute(own).one()
    query = sa.select(PhaseRunRow).join(IterationRow, IterationRow.id == PhaseRunRow.iteration_id)
    query = query.where(PhaseRunRow.phase == phase, PhaseRunRow.state == "finished")
    query = query.where(IterationRow.lineage == lineage, IterationRow.number <= number)
    return session.scalars(query.order_by(IterationRow.number.desc()).limit(1)).one_or_none()
