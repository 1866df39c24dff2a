"""The table of counted successes, kept so that no request has to count every episode, and of its changes."""

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from storage.columns import NAME_LENGTH, Row, Serial, id_column


class SuccessCountRow(Row):
    """Collected episodes of one iteration, task, station and policy, counted by what is known of them.

    `judged` episodes are valid and have a verdict, `unlabelled` ones are valid and have none, `invalid` ones
    say nothing about the policy. `robot_seconds` is the time of all of them together.
    """

    __tablename__ = "success_counts"
    __table_args__ = (
        sa.UniqueConstraint("iteration_id", "task_id", "station_id", "checkpoint_id"),
        sa.CheckConstraint("successes >= 0 AND successes <= judged", name="successes_are_judged"),
        sa.CheckConstraint("unlabelled >= 0 AND invalid >= 0", name="counts_are_counts"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    iteration_id: Mapped[str | None] = id_column("iterations.id", nullable=True, index=False)
    task_id: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), sa.ForeignKey("tasks.id"))
    station_id: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), sa.ForeignKey("stations.id"))
    checkpoint_id: Mapped[str | None] = id_column("checkpoints.id", nullable=True)
    successes: Mapped[int]
    judged: Mapped[int]
    unlabelled: Mapped[int]
    invalid: Mapped[int]
    robot_seconds: Mapped[float] = mapped_column(sa.Double)


class SuccessCountMarkRow(Row):
    """How often the counts of success were changed: one row, or none before the first change."""

    __tablename__ = "success_count_marks"
    __table_args__ = (sa.CheckConstraint("id = 1", name="there_is_one"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    changes: Mapped[int] = mapped_column(sa.BigInteger)
