"""What the REST API answers of the lab: stations, tasks, policies, judges, and who did what."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from daemon.api.schemas import CheckpointSummary
from daemon.spec_types import Lineage
from storage.station_health import NEWEST


class Latency(BaseModel):
    """Half, and 99 of 100, of the `steps` took at most so many milliseconds, told at most 3 % too long."""

    steps: int
    p50_ms: float
    p99_ms: float


class StationHealth(BaseModel):
    """What a station's newest collected episodes say; each was measured when it was committed.

    `measured` of the `episodes` were; those of releases before were not, and say nothing in what follows.
    """

    episodes: int = Field(description=f"looked at, {NEWEST} at most")
    invalid: int = Field(description="of `episodes`: those that say nothing about the policy")
    measured: int
    steps: int = Field(description="of measured episodes whose robot tells what its safety pipeline cut")
    cut_steps: int = Field(description="of `steps`: those of which it cut something")
    cuts: dict[str, int] = Field(
        description="steps by the stage that cut them, and those `held` or of a `fallback` action; "
        "zeros are left out",
        examples=[{"speed": 31, "box": 4}],
    )
    inference: Latency | None = Field(description="how long a policy took to answer, where it was asked")
    step: Latency | None = Field(description="from one observation to the next")


class Station(BaseModel):
    """A robot station that episodes came from; `description` is what it last said of itself."""

    id: str
    description: dict[str, Any]
    first_seen_at: datetime
    last_seen_at: datetime = Field(description="when it last described itself or gave an episode")
    health: StationHealth


class Stations(BaseModel):
    items: list[Station]


class Task(BaseModel):
    """What a robot was asked to do; `instruction` is the first one that the task was registered with."""

    id: str
    instruction: str
    registered_at: datetime


class Tasks(BaseModel):
    items: list[Task]


class Policy(CheckpointSummary):
    """A policy; `champion_of` names the lineages that act with it now."""

    champion_of: list[str]


class PolicyPage(BaseModel):
    items: list[Policy]
    next_cursor: str | None


class Judge(CheckpointSummary):
    """A trained judge; `current_of` names the lineages whose next phase asks it, or goes on training it."""

    current_of: list[str]


class JudgePage(BaseModel):
    items: list[Judge]
    next_cursor: str | None


class ChampionWish(BaseModel):
    """Whose champion is to change, and why, for those who read it later."""

    model_config = ConfigDict(extra="forbid")

    lineage: Lineage | None = Field(
        default=None, description="null means the policy's own, and main where it has none"
    )
    reason: str = Field(default="", max_length=500)


class Act(BaseModel):
    """Who did what to which thing, when."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    facts: dict[str, Any]


class Acts(BaseModel):
    items: list[Act]
    next_cursor: str | None
