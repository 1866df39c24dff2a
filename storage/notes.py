"""Notes on episodes: added, never changed. A note is no verdict: nothing that counts verdicts looks here."""

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import episodes
from storage.note_tables import EpisodeNoteRow


def append(session: Session, episode_id: str, text: str, *, author: str, now: datetime) -> EpisodeNoteRow:
    """Add a note; the space around its text is left out. The database refuses an empty or too long one.

    Raises:
        RowMissing: there is no such episode.
    """
    episodes.get(session, episode_id)
    row = EpisodeNoteRow(episode_id=episode_id, text=text.strip(), author=author, noted_at=now)
    session.add(row)
    session.flush()
    return row


def history(session: Session, episode_id: str) -> list[EpisodeNoteRow]:
    """Every note on one episode, in the order they came in."""
    query = sa.select(EpisodeNoteRow).where(EpisodeNoteRow.episode_id == episode_id)
    return list(session.scalars(query.order_by(EpisodeNoteRow.id)))


def counts(session: Session, episode_ids: Iterable[str]) -> dict[str, int]:
    """How many notes there are on each of these episodes that has one."""
    query = sa.select(EpisodeNoteRow.episode_id, sa.func.count())
    of_these = query.where(EpisodeNoteRow.episode_id.in_(list(episode_ids)))
    return {row[0]: row[1] for row in session.execute(of_these.group_by(EpisodeNoteRow.episode_id))}
