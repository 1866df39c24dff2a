"""What-ifs: a start, an instruction and a policy in; later, imagined rollouts and how they were judged out.

This process imagines nothing: the what-if is a row, and a worker does it while no phase waits for one.
"""

import logging
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from sqlalchemy.orm import Session

from daemon.api.films import PARTS_TOO, PartAsked, film_answer
from daemon.api.iterations import IdempotencyKey
from daemon.api.pages import Cursor, Limit
from daemon.api.security import Actor
from daemon.api.services import Services, Wired
from daemon.api.world_schemas import MOST_ROLLOUTS, WhatIf, WhatIfPage, WhatIfWish
from daemon.errors import PageNotFound, RequestInvalid
from daemon.iteration import require_lineage
from daemon.worlds.errors import WhatIfsFull
from daemon.worlds.pictures import Picture, picture_of_pixels, picture_of_text
from storage import audit, checkpoints, episodes, request_keys, what_ifs
from storage.errors import RowMissing
from storage.lineages import lineage_of
from storage.world_tables import WhatIfRow

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/worlds", tags=["worlds"])

ASKED_AT = "/v1/worlds/what-if"
SCOPE = "what_ifs"  # of idempotency keys
MOST_OPEN = 32  # what-ifs that wait or run: one worker does them in a few hours at worst

WhatIfId = Annotated[str, Path(max_length=40)]
Place = Annotated[int, Path(ge=0, lt=MOST_ROLLOUTS, description="which rollout, from 0 on")]


@router.post("/what-if", status_code=202, response_model=WhatIf)
def ask_what_if(
    wish: WhatIfWish,
    response: Response,
    services: Wired,
    actor: Actor,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Ask what would happen. 202: it waits for a worker; 200: the key found it again; 503: too many wait."""
    now, sent = services.now(), wish.model_dump(mode="json")
    started = _start(wish, services)
    request = {
        **started,
        **{name: sent[name] for name in ("rollouts", "steps", "temperature", "seed", "policy", "lineage")},
    }
    with services.database.write() as session:
        require_lineage(session, wish.lineage)
        what_if_id, new = request_keys.once(
            session,
            idempotency_key,
            scope=SCOPE,
            request=request,
            make=lambda: _ask(session, request, who=actor, now=now),
            now=now,
        )
        record = what_if_record(_found(session, what_if_id))
    response.status_code = 202 if new else 200
    response.headers["Location"] = f"/v1/worlds/what-ifs/{what_if_id}"
    log.info("what-if asked what_if=%s new=%s rollouts=%d", what_if_id, new, wish.rollouts)
    return record


@router.get("/what-ifs", response_model=WhatIfPage)
def list_what_ifs(services: Wired, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
    """Give a page of what-ifs, newest first."""
    with services.database.read() as session:
        rows, next_cursor = what_ifs.list_what_ifs(session, cursor=cursor, limit=limit)
        return {"items": [what_if_record(row) for row in rows], "next_cursor": next_cursor}


@router.get("/what-ifs/{what_if_id}", response_model=WhatIf)
def get_what_if(what_if_id: WhatIfId, services: Wired) -> dict[str, Any]:
    """Give how a what-if stands, and what was imagined once it is finished."""
    with services.database.read() as session:
        return what_if_record(_found(session, what_if_id))


@router.get("/what-ifs/{what_if_id}/start.png", response_class=Response)
def get_start(what_if_id: WhatIfId, services: Wired) -> Response:
    """Give the picture that all its rollouts start from."""
    with services.database.read() as session:
        sha256 = _found(session, what_if_id).request["start"]["sha256"]
    return Response(services.blobs.read(sha256), media_type="image/png")


@router.get("/what-ifs/{what_if_id}/rollouts/{place}/strip.jpg", response_class=Response)
def get_strip(what_if_id: WhatIfId, place: Place, services: Wired) -> Response:
    """Give every fifth frame of a rollout in one row."""
    return Response(_blob(what_if_id, place, part="strip", services=services), media_type="image/jpeg")


@router.get("/what-ifs/{what_if_id}/rollouts/{place}/film.mp4", response_class=Response, responses=PARTS_TOO)
def get_film(what_if_id: WhatIfId, place: Place, services: Wired, part: PartAsked = None) -> Response:
    """Give a rollout as a film at the robot's own speed, or a part of it."""
    film = _blob(what_if_id, place, part="film", services=services)
    return film_answer(film, tag=f"{what_if_id}-{place}", asked=part)


def what_if_record(row: WhatIfRow) -> dict[str, Any]:
    """A what-if as it is answered: pictures by their addresses, not by their digests."""
    asked, at = row.request, f"/v1/worlds/what-ifs/{row.id}"
    error = {"code": row.error_code, "message": row.error_message or ""} if row.error_code else None
    plain = ("instruction", "policy", "episode", "step", "rollouts", "steps", "temperature", "seed")
    return {
        "id": row.id,
        "state": row.state,
        "lineage": lineage_of(asked),
        **{name: asked[name] for name in plain},
        "start": f"{at}/start.png",
        "attempts": row.attempts,
        "progress": row.progress,
        "text": row.progress_text,
        "worker": row.worker,
        "requested_by": row.requested_by,
        "requested_at": row.requested_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "error": error,
        "result": None if row.result is None else _with_addresses(row.result, at),
    }


def _with_addresses(result: dict[str, Any], at: str) -> dict[str, Any]:
    rollouts = [
        {**own, "strip": f"{at}/rollouts/{place}/strip.jpg", "film": f"{at}/rollouts/{place}/film.mp4"}
        for place, own in enumerate(result["rollouts"])
    ]
    return {**result, "rollouts": rollouts}


def _start(wish: WhatIfWish, services: Services) -> dict[str, Any]:
    """The start as a blob, and what is asked of the robot there; files first, the row last."""
    if wish.image is not None:
        picture, instruction, place = picture_of_text(wish.image), wish.instruction, None
    else:
        picture, instruction = _frame_of(wish, services)
        place = wish.step
    start = {"sha256": services.blobs.put(picture.png), "width": picture.width, "height": picture.height}
    return {"start": start, "instruction": instruction, "episode": wish.episode, "step": place}


def _frame_of(wish: WhatIfWish, services: Services) -> tuple[Picture, str]:
    with services.database.read() as session:
        try:
            row = episodes.get(session, str(wish.episode))
        except RowMissing:
            raise RequestInvalid(faults={"body.episode": f"there is no episode {wish.episode}"}) from None
        frames = episodes.frames(session, services.blobs, row.id)
        if wish.step >= len(frames):
            fault = f"expected 0 to {len(frames) - 1}, as the episode has {len(frames)} observations"
            raise RequestInvalid(faults={"body.step": fault})
        instruction = wish.instruction or row.instruction
    if not instruction:
        raise RequestInvalid(faults={"body.instruction": "the episode has none, so one has to be given"})
    return picture_of_pixels(frames.decode(wish.step)), instruction


def _ask(session: Session, request: dict[str, Any], *, who: str, now: datetime) -> str:
    _require_policy(session, request["policy"])
    if what_ifs.count_open(session) >= MOST_OPEN:
        raise WhatIfsFull(most=MOST_OPEN)
    row = what_ifs.ask(session, request, who=who, now=now)
    facts = {name: request[name] for name in ("instruction", "policy", "episode", "rollouts", "steps")}
    subject = f"what-if {row.id}"
    audit.write(session, who, action="what_if_requested", subject=subject, facts=facts, now=now)
    return row.id


def _require_policy(session: Session, checkpoint_id: str | None) -> None:
    if checkpoint_id is None:
        return
    fault = f"there is no policy checkpoint {checkpoint_id} whose file is there"
    try:
        row = checkpoints.get(session, checkpoint_id)
    except RowMissing:
        raise RequestInvalid(faults={"body.policy": fault}) from None
    if row.kind != "policy" or row.retired_at is not None:
        raise RequestInvalid(faults={"body.policy": fault})


def _found(session: Session, what_if_id: str) -> WhatIfRow:
    try:
        return what_ifs.get(session, what_if_id)
    except RowMissing:
        raise PageNotFound(what="what-if", key=what_if_id) from None


def _blob(what_if_id: str, place: int, *, part: str, services: Services) -> bytes:
    with services.database.read() as session:
        result = _found(session, what_if_id).result or {"rollouts": []}
    if place >= len(result["rollouts"]):
        raise PageNotFound(what=f"{part} of what-if {what_if_id}, rollout", key=place)
    return services.blobs.read(result["rollouts"][place][part])
