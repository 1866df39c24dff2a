"""What people write about episodes without judging them: added over REST, never changed."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from daemon.api.callers import ANYBODY
from daemon.api.event_schemas import EpisodeNote, EpisodeNotes, NewNote
from daemon.api.iterations import IdempotencyKey
from daemon.api.labels import EpisodeId
from daemon.api.security import Actor, needs
from daemon.api.services import Wired
from storage import audit, episodes, events, notes, request_keys
from storage.note_tables import EpisodeNoteRow

router = APIRouter(prefix="/v1/episodes", tags=["notes"])

SCOPE = "notes"  # of idempotency keys
TOLD = 200  # characters of a note that its event has: events are one line


@router.get("/{episode_id}/notes", response_model=EpisodeNotes)
def list_notes(episode_id: EpisodeId, services: Wired) -> dict[str, Any]:
    """Give every note on an episode, in the order they came in."""
    with services.database.read() as session:
        episodes.get(session, episode_id)
        return {"items": [_record(row) for row in notes.history(session, episode_id)]}


@router.post(
    "/{episode_id}/notes", status_code=201, response_model=EpisodeNote, dependencies=[needs("label")]
)
def add_note(
    episode_id: EpisodeId,
    note: NewNote,
    response: Response,
    services: Wired,
    actor: Actor,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Add a note, which judges nothing. 201: it is new; 200: the key found it; 409: with another body."""
    now = services.now()
    request = {"episode_id": episode_id, **note.model_dump(mode="json")}
    with services.database.write() as session:
        note_id, new = request_keys.once(
            session,
            idempotency_key,
            scope=SCOPE,
            request=request,
            make=lambda: str(_append(session, episode_id, note, actor=actor, now=now).id),
            now=now,
        )
        row = session.get_one(EpisodeNoteRow, int(note_id))
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/episodes/{episode_id}/notes"
    return _record(row)


def _append(session: Session, episode_id: str, note: NewNote, *, actor: str, now: datetime) -> EpisodeNoteRow:
    row = notes.append(session, episode_id, note.text, author=note.author, now=now)
    who = note.author if actor == ANYBODY.name else actor  # without a token, as they say themselves
    said_by = {"note": row.id, "author": note.author}
    audit.write(session, who, action="note_added", subject=f"episode {episode_id}", facts=said_by, now=now)
    told = {"note": row.id, "episode_id": episode_id, "who": note.author, "begins": _beginning(note.text)}
    iteration_id = episodes.get(session, episode_id).iteration_id
    events.note(session, "note_added", at=now, facts=told, iteration_id=iteration_id)
    return row


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TOLD else f"{line[: TOLD - 1]}…"


def _record(row: EpisodeNoteRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "episode_id": row.episode_id,
        "text": row.text,
        "author": row.author,
        "noted_at": row.noted_at,
    }
