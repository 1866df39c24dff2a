"""The table of notes: what people wrote about episodes without judging them."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from storage.columns import EPISODE_ID_LENGTH, NAME_LENGTH, Row, Serial

MOST_CHARACTERS: Final = 2000  # of one note, as of what stands beside a verdict


class EpisodeNoteRow(Row):
    """One note on one episode, and who wrote it. The database refuses to change or delete it."""

    __tablename__ = "episode_notes"
    __table_args__ = (
        sa.CheckConstraint(f"length(text) > 0 AND length(text) <= {MOST_CHARACTERS}", name="text_has_a_size"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    episode_id: Mapped[str] = mapped_column(
        sa.String(EPISODE_ID_LENGTH), sa.ForeignKey("episodes.id"), index=True
    )
    text: Mapped[str] = mapped_column(sa.Text)
    author: Mapped[str] = mapped_column(sa.String(NAME_LENGTH))
    noted_at: Mapped[datetime]
