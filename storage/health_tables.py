"""The table of what an episode's recording says about its station: cut steps, and how long steps took."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from storage.columns import EPISODE_ID_LENGTH, JsonColumn, Row


class EpisodeHealthRow(Row):
    """Measured when the episode was committed; older episodes, and imported ones, have no row.

    `cut_steps` counts the steps of which the station's safety pipeline cut something, `cuts` the same by
    stage; both are null where the robot does not tell. `inference_ms` and `step_ms` are histograms, see
    `station_health`.
    """

    __tablename__ = "episode_health"
    __table_args__ = (sa.CheckConstraint("cut_steps >= 0", name="cut_steps_are_counted"),)

    episode_id: Mapped[str] = mapped_column(
        sa.String(EPISODE_ID_LENGTH), sa.ForeignKey("episodes.id"), primary_key=True
    )
    cut_steps: Mapped[int | None]
    cuts: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    inference_ms: Mapped[dict[str, Any]]
    step_ms: Mapped[dict[str, Any]]
