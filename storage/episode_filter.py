"""Which episodes are wanted: what people filter lists by. The lists themselves are in `episodes`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from storage.tables import CheckpointRow, EpisodeRow
from storage.verdict_order import effective_success

LABELS: Final = ("success", "failure", "unlabelled")
SHORT_ID: Final = 8  # letters of an id that lists show; fewer are a number


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeFilter:
    """Only episodes that are all of this; None asks for nothing.

    Attributes:
        label: one of LABELS: what the verdict that counts says.
        policy: the checkpoint that acted: its number, its id, or at least `SHORT_ID` first letters of it.
        valid: whether they count when policies are judged.
        since, until: they began in [since, until).
    """

    task: str | None = None
    label: str | None = None
    policy: str | None = None
    station: str | None = None
    valid: bool | None = None
    iteration_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """What a query of episodes has to hold."""
        equal = {
            EpisodeRow.task_id: self.task,
            EpisodeRow.station_id: self.station,
            EpisodeRow.iteration_id: self.iteration_id,
        }
        found: list[sa.ColumnElement[bool]] = [
            column == value for column, value in equal.items() if value is not None
        ]
        if self.policy is not None:
            found.append(_acted(self.policy))
        if self.valid is not None:
            found.append(EpisodeRow.valid_for_policy_eval.is_(self.valid))
        if self.label is not None:
            found.append(_labelled(self.label))
        if self.since is not None:
            found.append(EpisodeRow.started_at >= self.since)
        if self.until is not None:
            found.append(EpisodeRow.started_at < self.until)
        return found


def _acted(policy: str) -> sa.ColumnElement[bool]:
    named = CheckpointRow.id.startswith(policy, autoescape=True)
    if len(policy) < SHORT_ID:
        number = int(policy) if policy.isascii() and policy.isdecimal() else 0  # they count from 1
        named = CheckpointRow.number == number
    ids = sa.select(CheckpointRow.id).where(CheckpointRow.kind == "policy", named)
    return EpisodeRow.checkpoint_id.in_(ids)


def _labelled(label: str) -> sa.ColumnElement[bool]:
    said = effective_success()
    if label == "unlabelled":
        return said.is_(None)
    return said.is_(label == "success")
