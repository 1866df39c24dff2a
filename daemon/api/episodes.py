"""Recorded real episodes, and their films."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from sqlalchemy.orm import Session

from daemon.api.etags import TaggedRoute
from daemon.api.films import PARTS_TOO, PartAsked, film_answer
from daemon.api.kept_answers import keeps
from daemon.api.pages import Cursor, Limit, OfIteration
from daemon.api.schemas import EpisodePage, EpisodeSummary
from daemon.api.services import Wired
from daemon.errors import PageNotFound
from daemon.film import film_of
from daemon.iteration import find_iteration, iteration_numbers
from storage import episodes, labels, notes
from storage.errors import RowMissing
from storage.tables import EpisodeRow, LabelRow

router = APIRouter(prefix="/v1/episodes", tags=["episodes"], route_class=TaggedRoute)

EpisodeId = Annotated[str, Path(max_length=100)]


@router.get("", response_model=EpisodePage, dependencies=[keeps()])
def list_episodes(
    services: Wired, limit: Limit = 50, cursor: Cursor = None, iteration: OfIteration = None
) -> dict[str, Any]:
    """Give a page of episodes, newest first."""
    with services.database.read() as session:
        chosen = None if iteration is None else find_iteration(session, iteration).id
        rows, next_cursor = episodes.list_episodes(session, iteration_id=chosen, cursor=cursor, limit=limit)
        return {"items": _summaries(session, rows), "next_cursor": next_cursor}


@router.get("/{episode_id}", response_model=EpisodeSummary)
def get_episode(episode_id: EpisodeId, services: Wired) -> dict[str, Any]:
    """Give what is known of one episode."""
    with services.database.read() as session:
        try:
            row = episodes.get(session, episode_id)
        except RowMissing:
            raise PageNotFound(what="episode", key=episode_id) from None
        return _summaries(session, [row])[0]


@router.get("/{episode_id}/video.mp4", response_class=Response, responses=PARTS_TOO)
def get_video(episode_id: str, services: Wired, part: PartAsked = None) -> Response:
    """Give an episode's film at the robot's own speed, or a part of it."""
    with services.database.read() as session:
        episode = episodes.load(session, services.blobs, episode_id)
    film = film_of(episode.frames.decode_all(), frames_per_s=episode.manifest.control_hz)
    return film_answer(film, tag=episode.digest, asked=part)


def _summaries(session: Session, rows: list[EpisodeRow]) -> list[dict[str, Any]]:
    verdicts = labels.effective_labels(session, [row.id for row in rows])
    numbers = iteration_numbers(session, {row.iteration_id for row in rows if row.iteration_id})
    noted = notes.counts(session, [row.id for row in rows])
    return [{**_summary(row, verdicts.get(row.id), numbers), "notes": noted.get(row.id, 0)} for row in rows]


def _summary(row: EpisodeRow, label: LabelRow | None, numbers: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": row.id,
        "iteration": numbers.get(row.iteration_id or ""),
        "task": row.task_id,
        "instruction": row.instruction,
        "station": row.station_id,
        "origin": row.origin,
        "held_out": row.held_out,
        "steps": row.steps,
        "outcome": row.outcome,
        "success": label.success if label else None,
        "label_source": label.source if label else None,
        "valid_for_policy_eval": row.valid_for_policy_eval,
        "policy_checkpoint": row.checkpoint_id,
        "started_at": row.started_at,
        "committed_at": row.committed_at,
        "video": f"/v1/episodes/{row.id}/video.mp4",
    }
