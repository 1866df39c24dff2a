"""Episodes: found by what they are, looked at step by step, and labelled by people."""

import uuid
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.orm import Session

from daemon.api.callers import Caller
from daemon.api.event_schemas import NewLabel
from daemon.api.labels import EpisodeId, add_label, list_labels
from daemon.api.notes import list_notes
from daemon.api.pages import LARGEST_NUMBER
from daemon.api.security import needs
from daemon.api.services import Services, Wired
from daemon.dashboard.charts import Chart, Point, Series
from daemon.dashboard.forms import Fields, Form, body_of, field
from daemon.dashboard.page import PageRoute, render
from daemon.dashboard.thumbnails import thumbnail
from daemon.errors import PageNotFound, RequestInvalid
from daemon.iteration import find_iteration, iteration_numbers
from robot_bridge.steps import StepArrays
from storage import episodes, labels, notes, stations, tasks
from storage.episode_filter import EpisodeFilter
from storage.errors import Retired
from storage.tables import EpisodeRow

router = APIRouter(route_class=PageRoute)

SHOWN = 24  # episodes on one page
AXES = ("x, m", "y, m", "z, m", "roll, rad", "pitch, rad", "yaw, rad", "gripper")
SAID = {"success": True, "failure": False, "unknown": None}
A_DAY = {"Cache-Control": "private, max-age=86400, immutable"}  # frames never change

Frame = Annotated[int, Path(ge=0, le=100_000)]


class EpisodesAsked(BaseModel):
    """The filter, as the form sends it: an empty field asks for nothing."""

    model_config = ConfigDict(extra="forbid")

    task: str | None = Field(default=None, max_length=200)
    label: Literal["success", "failure", "unlabelled"] | None = None
    policy: str | None = Field(default=None, max_length=40)
    station: str | None = Field(default=None, max_length=200)
    valid: Literal["yes", "no"] | None = None
    iteration: int | None = Field(default=None, ge=1, le=LARGEST_NUMBER)
    since: AwareDatetime | None = Field(default=None, alias="from")
    until: AwareDatetime | None = Field(default=None, alias="to")
    cursor: str | None = Field(default=None, max_length=200)

    @model_validator(mode="before")
    @classmethod
    def _empty_fields_are_absent(cls, sent: Any) -> Any:
        if not isinstance(sent, dict):
            return sent
        asked = {name: value for name, value in sent.items() if value != ""}
        for name in ("from", "to"):  # what browsers send for a day is without a zone: it is UTC
            if isinstance(asked.get(name), str) and len(asked[name]) == len("2026-01-01"):
                asked[name] += "T00:00:00Z"
        return asked

    def wanted(self, session: Session) -> EpisodeFilter:
        """The filter for the store; a day that ends is wanted to its end.

        Raises:
            PageNotFound: there is no such iteration.
        """
        iteration = None if self.iteration is None else find_iteration(session, self.iteration).id
        return EpisodeFilter(
            task=self.task,
            label=self.label,
            policy=self.policy,
            station=self.station,
            valid=None if self.valid is None else self.valid == "yes",
            iteration_id=iteration,
            since=self.since,
            until=None if self.until is None else _end_of(self.until),
        )

    def query(self) -> str:
        """The filter as a query, without the place in the list."""
        sent = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"cursor"})
        return urlencode(sent) + "&" if sent else ""


@router.get("/episodes")
def list_episodes(request: Request, services: Wired, asked: Annotated[EpisodesAsked, Query()]) -> Response:
    """Episodes that fit the filter, newest first."""
    with services.database.read() as session:
        rows, next_cursor = episodes.list_episodes(
            session, which=asked.wanted(session).conditions(), cursor=asked.cursor, limit=SHOWN
        )
        verdicts = labels.effective_labels(session, [row.id for row in rows])
        noted = notes.counts(session, [row.id for row in rows])
        numbers = iteration_numbers(session, {row.iteration_id for row in rows if row.iteration_id})
        choices: dict[str, Any] = {
            "tasks": [row.id for row in tasks.list_tasks(session)],
            "stations": [row.id for row in stations.list_stations(session)],
        }
    shown = [
        {
            "row": row,
            "label": verdicts.get(row.id),
            "notes": noted.get(row.id, 0),
            "iteration": numbers.get(row.iteration_id or ""),
        }
        for row in rows
    ]
    return render(
        request,
        "episodes.html",
        asked=asked,
        shown=shown,
        next_cursor=next_cursor,
        base=f"/episodes?{asked.query()}",
        **choices,
    )


@router.get("/episodes/{episode_id}")
def show_episode(request: Request, episode_id: EpisodeId, services: Wired) -> Response:
    """One episode: its film, what was done and felt at every step, and what was said of it."""
    with services.database.read() as session:
        row = found(session, episode_id)
        numbers = iteration_numbers(session, {row.iteration_id} if row.iteration_id else set())
        older, _ = episodes.list_episodes(session, cursor=f"{row.committed_at.isoformat()}~{row.id}", limit=1)
    charts = step_charts(services, row)
    return render(
        request,
        "episode.html",
        row=row,
        iteration=numbers.get(row.iteration_id or ""),
        charts=charts,
        has_film=row.retired_at is None,
        labels=list_labels(episode_id, services)["items"],
        notes=list_notes(episode_id, services)["items"],
        older=older[0].id if older else None,
        key=str(uuid.uuid4()),
    )


@router.get("/episodes/{episode_id}/frames/{index}.jpg")
def get_frame(episode_id: EpisodeId, index: Frame, services: Wired) -> Response:
    """One picture of an episode, as it was recorded."""
    with services.database.read() as session:
        found(session, episode_id)
        frames = episodes.frames(session, services.blobs, episode_id)
    if index >= len(frames):
        raise PageNotFound(what=f"picture of episode {episode_id}", key=index)
    return Response(frames.jpeg(index), media_type="image/jpeg", headers=A_DAY)


@router.get("/episodes/{episode_id}/thumbnail.jpg")
def get_thumbnail(episode_id: EpisodeId, services: Wired) -> Response:
    """An episode at a glance."""
    with services.database.read() as session:
        found(session, episode_id)
        frames = episodes.frames(session, services.blobs, episode_id)
    return Response(thumbnail(frames), media_type="image/jpeg", headers=A_DAY)


@router.post("/episodes/{episode_id}/labels", dependencies=[needs("label")])
def label_episode(request: Request, episode_id: EpisodeId, services: Wired, form: Form) -> Response:
    """Add what somebody says of an episode; a token says who it is."""
    caller: Caller = request.state.caller
    label = read_label(form, caller)
    with services.database.read() as session:
        found(session, episode_id)
    key = f"page-{field(form, 'key')[:60]}-{form['said']}"
    add_label(episode_id, label, Response(), services, caller.name, key)
    return RedirectResponse(f"/episodes/{episode_id}", status_code=303)


def read_label(form: Fields, caller: Caller) -> NewLabel:
    """The verdict in a form.

    Raises:
        RequestInvalid: it is none of the three, or nobody says it.
    """
    said = field(form, "said")
    if said not in SAID:
        raise RequestInvalid(faults={"said": f"expected one of {', '.join(SAID)}"})
    who = caller.name if caller.token_id is not None else field(form, "labeller")
    return body_of(NewLabel, success=SAID[said], labeller=who, note=form.get("note", "").strip() or None)


def found(session: Session, episode_id: str) -> EpisodeRow:
    """The row of an episode.

    Raises:
        PageNotFound: there is none.
    """
    row = session.get(EpisodeRow, episode_id)
    if row is None:
        raise PageNotFound(what="episode", key=episode_id)
    return row


def step_charts(services: Services, row: EpisodeRow) -> list[Chart]:
    """Actions and proprioception by axis; none where the files were let go."""
    try:
        with services.database.read() as session:
            steps = episodes.load(session, services.blobs, row.id).steps
    except Retired:
        return []
    return [*_action_charts(steps), *_state_charts(steps)]


def _action_charts(steps: StepArrays) -> list[Chart]:
    ran = steps.executed_action if steps.executed_action is not None else steps.predicted_executed
    what = "executed" if steps.executed_action is not None else "expected to be executed"
    return [
        Chart(
            key=f"action-{place}",
            title=f"Action {axis}",
            series=[
                Series(name="decided", points=_points(steps.raw_action, place), tone="b"),
                *([] if ran is None else [Series(name=what, points=_points(ran, place))]),
            ],
            across="step",
            cursor=True,
        )
        for place, axis in enumerate(AXES)
    ]


def _state_charts(steps: StepArrays) -> list[Chart]:
    return [
        Chart(
            key=f"state-{place}",
            title=f"Proprioception {axis}",
            series=[Series(name="measured", points=_points(steps.state, place), tone="c")],
            across="step",
            cursor=True,
        )
        for place, axis in enumerate(AXES)
    ]


def _points(numbers: NDArray[np.float32], axis: int) -> list[Point]:
    return [Point(x=float(step), y=float(value)) for step, value in enumerate(numbers[:, axis])]


def _end_of(until: datetime) -> datetime:
    """A day is wanted to its end; a time is what it is."""
    is_day = (until.hour, until.minute, until.second) == (0, 0, 0)
    return until + timedelta(days=1) if is_day else until
