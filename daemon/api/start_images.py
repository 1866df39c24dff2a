"""Pictures of people's own that policy updates may start from: added, listed, removed."""

import logging
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from sqlalchemy.orm import Session

from daemon.api.iterations import IdempotencyKey
from daemon.api.security import Actor
from daemon.api.services import Wired
from daemon.api.world_schemas import NewStartImage, StartImage, StartImages
from daemon.errors import PageNotFound
from daemon.worlds.pictures import picture_of_text
from storage import audit, request_keys, start_images
from storage.errors import RowMissing
from storage.world_tables import StartImageRow

log = logging.getLogger(__name__)
ADDED_AT = "/v1/start-images"
router = APIRouter(prefix=ADDED_AT, tags=["worlds"])

SCOPE = "start_images"  # of idempotency keys

ImageId = Annotated[str, Path(max_length=40)]


@router.post("", status_code=201, response_model=StartImage)
def add_start_image(
    new: NewStartImage,
    response: Response,
    services: Wired,
    actor: Actor,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Keep a picture. 201: it is new; 200: the key found it again; 409: with another body."""
    now, picture = services.now(), picture_of_text(new.image)
    sha256 = services.blobs.put(picture.png)
    request = {"sha256": sha256, "task": new.task, "instruction": new.instruction}
    wanted = start_images.NewStartImage(
        task_id=new.task,
        instruction=new.instruction,
        sha256=sha256,
        width=picture.width,
        height=picture.height,
    )
    with services.database.write() as session:
        image_id, is_new = request_keys.once(
            session,
            idempotency_key,
            scope=SCOPE,
            request=request,
            make=lambda: _add(session, wanted, who=actor, now=now),
            now=now,
        )
        record = _record(_found(session, image_id))
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"{ADDED_AT}/{image_id}"
    log.info("start image kept start_image=%s task=%s new=%s", image_id, new.task, is_new)
    return record


def _add(session: Session, wanted: start_images.NewStartImage, *, who: str, now: datetime) -> str:
    row = start_images.add(session, wanted, who=who, now=now)
    facts = {"task": wanted.task_id, "instruction": wanted.instruction}
    subject = f"start image {row.id}"
    audit.write(session, who, action="start_image_added", subject=subject, facts=facts, now=now)
    return row.id


@router.get("", response_model=StartImages)
def list_start_images(services: Wired) -> dict[str, Any]:
    """Give every picture that is there, oldest first."""
    with services.database.read() as session:
        return {"items": [_record(row) for row in start_images.present(session)]}


@router.get("/{image_id}", response_model=StartImage)
def get_start_image(image_id: ImageId, services: Wired) -> dict[str, Any]:
    """Give what is known of one picture."""
    with services.database.read() as session:
        return _record(_found(session, image_id))


@router.get("/{image_id}/image.png", response_class=Response)
def get_picture(image_id: ImageId, services: Wired) -> Response:
    """Give the picture itself."""
    with services.database.read() as session:
        image = _found(session, image_id).image or {}
    return Response(services.blobs.read(image["sha256"]), media_type="image/png")


@router.delete("/{image_id}", status_code=204)
def remove_start_image(image_id: ImageId, services: Wired, actor: Actor) -> None:
    """Remove a picture, file and all; an iteration that started from it can then not be done again."""
    now = services.now()
    with services.database.write() as session:
        row = _found(session, image_id)
        start_images.remove(session, row, now=now)
        facts = {"task": row.task_id}
        subject = f"start image {row.id}"
        audit.write(session, actor, action="start_image_removed", subject=subject, facts=facts, now=now)


def _found(session: Session, image_id: str) -> StartImageRow:
    try:
        return start_images.get(session, image_id)
    except RowMissing:
        raise PageNotFound(what="start image", key=image_id) from None


def _record(row: StartImageRow) -> dict[str, Any]:
    image = row.image or {}
    return {
        "id": row.id,
        "task": row.task_id,
        "instruction": row.instruction,
        "width": image["width"],
        "height": image["height"],
        "image": f"{ADDED_AT}/{row.id}/image.png",
        "added_by": row.added_by,
        "added_at": row.added_at,
    }
