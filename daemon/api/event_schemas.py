"""What the API answers about events, labels and notes, field by field."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from storage.note_tables import MOST_CHARACTERS


class Event(BaseModel):
    """One thing that happened. `text` is for people, `kind` and `facts` are for programs."""

    id: int
    at: datetime
    kind: str
    iteration: int | None
    text: str
    facts: dict[str, Any]


class EventPage(BaseModel):
    items: list[Event]
    next_cursor: str | None


Words = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00]+$")
]
Note = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=MOST_CHARACTERS, pattern=r"^[^\x00]*$")
]
NoteText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MOST_CHARACTERS, pattern=r"^[^\x00]+$"),
]


class NewLabel(BaseModel):
    """What a human says of an episode. `success` null: they cannot tell; that hides no other verdict."""

    model_config = ConfigDict(extra="forbid", strict=True)

    success: bool | None
    labeller: Words = Field(description="who says so")
    note: Note | None = None


class Label(BaseModel):
    """One verdict, as it is kept. `counts`: this one gives the episode its success."""

    id: int
    episode_id: str
    success: bool | None
    source: str
    who: str | None
    note: str | None
    confidence: float | None
    labelled_at: datetime
    recorded_at: datetime
    counts: bool


class Labels(BaseModel):
    """Every verdict on one episode, in the order they came in."""

    items: list[Label]


class NewNote(BaseModel):
    """What somebody writes about an episode without judging it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: NoteText = Field(description="without the space around it")
    author: Words = Field(description="who writes it")


class EpisodeNote(BaseModel):
    """One note, as it is kept. It is no verdict, and counts nowhere."""

    id: int
    episode_id: str
    text: str
    author: str
    noted_at: datetime


class EpisodeNotes(BaseModel):
    """Every note on one episode, in the order they came in."""

    items: list[EpisodeNote]
