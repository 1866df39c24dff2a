"""Which files rows still need, and how rows let go of theirs: first a mark, the file later.

A retired row stays, with everything it says; only its files may be deleted. Whoever deletes them waits a
while after the mark, so that a reader who found the file before can finish.
"""

import re
from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.note_tables import EpisodeNoteRow
from storage.reflection import reflected
from storage.states import OVER
from storage.tables import CheckpointRow, EpisodeBlobRow, EpisodeRow, IterationRow, LabelRow

DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
ROWS_AT_ONCE = 200  # JSON texts in memory


def named_blobs(session: Session, *, retired_before: datetime | None = None) -> set[str]:
    """Every sha256 that a row needs: of checkpoints, of episodes, and wherever JSON mentions one.

    Args:
        retired_before: rows that were retired later than this still need their files; None: no retired row
            does.
    """
    kept, retired = owned_blobs(session, retired_before=retired_before)
    return kept | (mentioned(session) - retired)


def owned_blobs(session: Session, *, retired_before: datetime | None = None) -> tuple[set[str], set[str]]:
    """Digests that rows of checkpoints and episodes must find as files, and those they need no more."""
    of_checkpoints = sa.select(CheckpointRow.sha256, CheckpointRow.retired_at)
    of_episodes = sa.select(EpisodeBlobRow.sha256, EpisodeRow.retired_at).join(
        EpisodeRow, EpisodeRow.id == EpisodeBlobRow.episode_id
    )
    kept: set[str] = set()
    retired: set[str] = set()
    for query in (of_checkpoints, of_episodes):
        for sha256, retired_at in session.execute(query):
            needed = retired_at is None or (retired_before is not None and retired_at > retired_before)
            (kept if needed else retired).add(sha256)
    return kept, retired - kept


def mentioned(session: Session) -> set[str]:
    """Digests in JSON columns, wherever they hold them: film strips are known nowhere else."""
    found: set[str] = set()
    for table in reflected(session.connection()).sorted_tables:
        for column in table.columns:
            if isinstance(column.type, sa.JSON):
                texts = session.execute(sa.select(sa.cast(column, sa.Text)).where(column.is_not(None)))
                for (text,) in texts.yield_per(ROWS_AT_ONCE):
                    found.update(DIGEST.findall(text))
    return found


def retire_checkpoints(
    session: Session, keep: Collection[str], *, made_before: datetime, now: datetime
) -> list[CheckpointRow]:
    """Mark every checkpoint that is not to be kept and was made before an instant; the newly marked."""
    query = sa.select(CheckpointRow).where(
        CheckpointRow.retired_at.is_(None), CheckpointRow.created_at < made_before
    )
    retired = [row for row in session.scalars(query.order_by(CheckpointRow.number)) if row.id not in keep]
    for row in retired:
        row.retired_at = now
    session.flush()
    return retired


def old_episodes(session: Session, *, committed_before: datetime) -> list[EpisodeRow]:
    """Episodes of ended iterations that nobody measures with and no human has looked at, oldest first."""
    by_human = sa.select(LabelRow.episode_id).where(LabelRow.source == "human")
    noted = sa.select(EpisodeNoteRow.episode_id)
    unfinished = sa.select(IterationRow.id).where(IterationRow.state.not_in(OVER))
    query = sa.select(EpisodeRow).where(
        EpisodeRow.retired_at.is_(None),
        EpisodeRow.committed_at < committed_before,
        EpisodeRow.held_out.is_(False),
        EpisodeRow.id.not_in(by_human),
        EpisodeRow.id.not_in(noted),
        sa.or_(EpisodeRow.iteration_id.is_(None), EpisodeRow.iteration_id.not_in(unfinished)),
    )
    return list(session.scalars(query.order_by(EpisodeRow.committed_at)))


def retire_episodes(session: Session, rows: Collection[EpisodeRow], *, now: datetime) -> None:
    """Mark episodes: they still count, and train nothing any more."""
    for row in rows:
        row.retired_at = now
    session.flush()
