"""What is asked of a world model over REST and what it answers, by field; and pictures to start from."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from daemon.api.event_schemas import Words
from daemon.api.schemas import ErrorRecord
from daemon.spec import TaskId
from daemon.spec_types import Lineage
from daemon.worlds.pictures import MOST_TEXT
from storage.lineages import MAIN

MOST_ROLLOUTS = 16
MOST_STEPS = 100

ImageText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MOST_TEXT),
    Field(description="a PNG or JPEG in base64, at most 2048 pixels a side and 3 MB"),
]
Id = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]


class WhatIfWish(BaseModel):
    """What would happen from here? The start is a picture, or a frame of an episode."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
    )

    image: ImageText | None = None
    episode: Id | None = Field(default=None, description="id of an episode to start from instead")
    step: Annotated[int, Field(ge=0, le=100_000)] = Field(default=0, description="which of its observations")
    instruction: Words | None = Field(default=None, description="the episode's own where there is none")
    policy: Id | None = Field(default=None, description="id of a policy checkpoint; null means the champion")
    lineage: Lineage = Field(default=MAIN, description="whose world model, judge and champion")
    rollouts: Annotated[int, Field(ge=1, le=MOST_ROLLOUTS)] = 4
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = Field(
        default=40, description="cut to whole action chunks of the policy"
    )
    temperature: Annotated[float, Field(ge=0.0, le=5.0)] = Field(default=1.0, description="0 acts greedily")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _starts_somewhere(self) -> Self:
        if (self.image is None) == (self.episode is None):
            raise ValueError("expected either image or episode")
        if self.image is not None and self.instruction is None:
            raise ValueError("expected an instruction with the image")
        return self


class ImaginedRate(BaseModel):
    """Successes of the rollouts that were judged, with the Wilson 95 % interval; imagined, never real."""

    successes: int
    judged: int
    declined: int
    wilson_low: float
    wilson_high: float


class ImaginedRollout(BaseModel):
    """One rollout. `along`: what the judge would say if it ended at that frame, from the start on."""

    success: bool | None
    probability: float | None
    along: list[float | None]
    strip: str
    film: str


class CheckpointRead(BaseModel):
    id: str
    number: int


class WhatIfResult(BaseModel):
    """What was imagined. Steps beyond `trusted_steps` are not believed; null: nobody has measured it."""

    read: dict[str, CheckpointRead]
    steps: int
    trusted_steps: int | None
    rate: ImaginedRate
    rollouts: list[ImaginedRollout]


class WhatIf(BaseModel):
    """How a what-if stands; `result` is there when it is finished."""

    id: str
    state: str
    lineage: str
    instruction: str
    policy: str | None
    episode: str | None
    step: int | None
    rollouts: int
    steps: int
    temperature: float
    seed: int
    start: str
    attempts: int
    progress: float
    text: str
    worker: str | None
    requested_by: str
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorRecord | None
    result: WhatIfResult | None


class WhatIfPage(BaseModel):
    """Newest first; of those that are over, the newest 200 are kept."""

    items: list[WhatIf]
    next_cursor: str | None


class NewStartImage(BaseModel):
    """A picture that policy updates may start from, where the spec has `policy.start_images`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: ImageText
    task: TaskId
    instruction: Words


class StartImage(BaseModel):
    id: str
    task: str
    instruction: str
    width: int
    height: int
    image: str
    added_by: str
    added_at: datetime


class StartImages(BaseModel):
    """Oldest first."""

    items: list[StartImage]
