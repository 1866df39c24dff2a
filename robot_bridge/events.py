"""What a station tells afterwards: its journal of events, and verdicts on its episodes. Messages only."""

from __future__ import annotations

from datetime import datetime
from typing import Final, TypeAlias

from pydantic import Field

from robot_bridge.episode import LabelSource
from robot_bridge.protocol import Answer, Command

EVENTS_MAX: Final = 500  # of one answer
EVENTS_WAIT_MAX_S: Final = 30.0

Fact: TypeAlias = str | int | float | bool | None


class EventAnswer(Answer):
    """One line of the journal; cursors rise by one and are never used again.

    Kinds: station_started, lease_acquired, lease_expired, lease_released, episode_opened, episode_started,
    hold, resumed, episode_finished, episode_lost, episode_acknowledged, clips, estop, estop_cleared, parked,
    human_needed, human_done, scene_reset, motor_fault, camera_fault, maintenance, resting, rested,
    label_added.
    """

    cursor: int
    at: datetime
    kind: str
    episode_id: str | None = None
    facts: dict[str, Fact] = Field(default_factory=dict)


class EventsAnswer(Answer):
    """Events after a cursor, oldest first. `oldest` is the first one still kept: a gap before it is lost."""

    events: tuple[EventAnswer, ...]
    next_cursor: int
    oldest: int


class LabelRequest(Command):
    """One verdict on an episode. It is added; what others said stays."""

    success: bool | None
    source: LabelSource
    judge: str = Field(min_length=1, max_length=200)
    answer: str | None = Field(default=None, max_length=2000)
    confidence: float | None = Field(default=None, ge=0.0, le=1.0)
    partial: float | None = Field(default=None, ge=0.0, le=1.0)


class LabelAnswer(Answer):
    """A verdict as the station keeps it; `number` counts up within the episode."""

    number: int
    at: datetime
    success: bool | None
    source: LabelSource
    judge: str
    answer: str | None = None
    confidence: float | None = None
    partial: float | None = None


class LabelsAnswer(Answer):
    """All verdicts in the order they came, and the one that counts: human > sim_predicate > classifier > vlm,
    of equals the newest; one without an answer never counts.
    """

    episode_id: str
    labels: tuple[LabelAnswer, ...]
    effective: LabelAnswer | None
