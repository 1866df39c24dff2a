"""What people say of episodes: added over REST, never changed, with every verdict before it."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from sqlalchemy.orm import Session

from daemon.api.callers import ANYBODY
from daemon.api.event_schemas import Label, Labels, NewLabel
from daemon.api.iterations import IdempotencyKey
from daemon.api.security import Actor, needs
from daemon.api.services import Wired
from storage import audit, episodes, events, labels, request_keys
from storage.tables import LabelRow

router = APIRouter(prefix="/v1/episodes", tags=["labels"])

SCOPE = "labels"  # of idempotency keys

EpisodeId = Annotated[str, Path(max_length=100)]


@router.get("/{episode_id}/labels", response_model=Labels)
def list_labels(episode_id: EpisodeId, services: Wired) -> dict[str, Any]:
    """Give every verdict on an episode, in the order they came in."""
    with services.database.read() as session:
        episodes.get(session, episode_id)
        counting = labels.effective_label(session, episode_id)
        return {"items": [_record(row, counting) for row in labels.history(session, episode_id)]}


@router.post("/{episode_id}/labels", status_code=201, response_model=Label, dependencies=[needs("label")])
def add_label(
    episode_id: EpisodeId,
    label: NewLabel,
    response: Response,
    services: Wired,
    actor: Actor,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Add a human's verdict. 201: it is new; 200: the key found it again; 409: with another body."""
    now = services.now()
    request = {"episode_id": episode_id, **label.model_dump(mode="json")}
    with services.database.write() as session:
        label_id, new = request_keys.once(
            session,
            idempotency_key,
            scope=SCOPE,
            request=request,
            make=lambda: str(_append(session, episode_id, label, actor=actor, now=now).id),
            now=now,
        )
        row = session.get_one(LabelRow, int(label_id))
        counting = labels.effective_label(session, episode_id)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/episodes/{episode_id}/labels"
    return _record(row, counting)


def _append(session: Session, episode_id: str, label: NewLabel, *, actor: str, now: datetime) -> LabelRow:
    verdict = labels.Verdict(
        success=label.success, source="human", at=now, judge=label.labeller, answer=label.note
    )
    row = labels.append(session, episode_id, verdict, now=now)
    facts = {"label": row.id, "success": label.success}
    who = label.labeller if actor == ANYBODY.name else actor  # without a token, as they say themselves
    said_by = {**facts, "labeller": label.labeller}
    audit.write(session, who, action="label_added", subject=f"episode {episode_id}", facts=said_by, now=now)
    said = {True: "success", False: "failure", None: "case of which they cannot tell"}[label.success]
    told = {**facts, "episode_id": episode_id, "who": label.labeller, "verdict": said}
    iteration_id = episodes.get(session, episode_id).iteration_id
    events.note(session, "label_added", at=now, facts=told, iteration_id=iteration_id)
    return row


def _record(row: LabelRow, counting: LabelRow | None) -> dict[str, Any]:
    return {
        "id": row.id,
        "episode_id": row.episode_id,
        "success": row.success,
        "source": row.source,
        "who": row.judge,
        "note": row.answer,
        "confidence": row.confidence,
        "labelled_at": row.labelled_at,
        "recorded_at": row.recorded_at,
        "counts": counting is not None and counting.id == row.id,
    }
