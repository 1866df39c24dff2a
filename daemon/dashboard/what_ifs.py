"""What if? A form that asks a world model, and a page where its rollouts are watched with the judge's curve.

It asks as a program does over REST (`daemon.api.worlds`): a row for a worker, under the same limits.
"""

import base64
import uuid
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError
from sqlalchemy.orm import Session

from daemon.api.problems import STATUS
from daemon.api.security import Actor
from daemon.api.services import Services, Wired
from daemon.api.world_schemas import MOST_ROLLOUTS, MOST_STEPS, WhatIfWish
from daemon.api.worlds import WhatIfId, ask_what_if, get_what_if, list_what_ifs
from daemon.dashboard.charts import Chart, Mark, Point, Series
from daemon.dashboard.forms import Fields, field
from daemon.dashboard.page import PageRoute, render
from daemon.dashboard.uploads import UploadForm
from daemon.errors import DaemonError, RequestInvalid
from daemon.spec import dotted
from daemon.worlds.errors import PictureUnusable, WhatIfsFull
from daemon.worlds.pictures import MOST_BYTES
from storage import checkpoints, episodes, lineages, start_images, tasks
from storage.errors import RowMissing

router = APIRouter(route_class=PageRoute)

ASKED_AT = "/imagination/what-if"
OFFERED = 20  # newest episodes and policies in the lists of the form
LISTED = 10  # what-ifs below it
LONGEST_KEY = 60
UPLOAD = "upload"
BEGUN: Fields = {
    "start": UPLOAD, "step": "0", "instruction": "", "policy": "", "lineage": lineages.MAIN,
    "rollouts": "4", "steps": "40", "seed": "0",
}  # fmt: skip
REFUSALS = (RequestInvalid, PictureUnusable, WhatIfsFull)

EpisodeAsked = Annotated[str | None, Query(max_length=100)]
StepAsked = Annotated[int, Query(ge=0, le=100_000)]


@router.get(ASKED_AT)
def show_form(
    request: Request, services: Wired, episode: EpisodeAsked = None, step: StepAsked = 0
) -> Response:
    """The form, perhaps with an episode to start from, and what was asked last."""
    start = UPLOAD if episode is None else f"episode:{episode}"
    return _form_page(request, services, sent={**BEGUN, "start": start, "step": str(step)})


@router.post(ASKED_AT)
def ask(request: Request, services: Wired, actor: Actor, form: UploadForm) -> Response:
    """Ask for rollouts; what is refused comes back with the reason, and nothing was kept."""
    key = form.fields.get("key", "")[:LONGEST_KEY] or str(uuid.uuid4())
    try:
        wish = read_wish(form.fields, form.files.get("picture", b""), services=services)
        record = ask_what_if(wish, Response(), services, actor, f"page-{key}")
    except REFUSALS as refused:
        return _form_page(request, services, sent={**BEGUN, **form.fields}, refused=refused)
    return RedirectResponse(f"/imagination/what-ifs/{record['id']}", status_code=303)


@router.get("/imagination/what-ifs/{what_if_id}")
def show_what_if(request: Request, what_if_id: WhatIfId, services: Wired) -> Response:
    """How one stands; when it is finished, every rollout with its film and what the judge thinks along it."""
    record = get_what_if(what_if_id, services)
    result = record["result"]
    charts = (
        [] if result is None else [along_chart(result, place) for place in range(len(result["rollouts"]))]
    )
    is_open = record["state"] in {"queued", "running"}
    return render(request, "what_if.html", asked=record, result=result, charts=charts, is_open=is_open)


def read_wish(fields: Fields, picture: bytes, *, services: Services) -> WhatIfWish:
    """What the form asks for, under the rules of the REST API.

    Raises:
        RequestInvalid: something in it is missing or beyond its limits.
    """
    sent: dict[str, Any] = {name: _whole(fields, name) for name in ("rollouts", "steps", "seed")}
    sent |= {
        "instruction": fields.get("instruction", "").strip() or None,
        "policy": fields.get("policy", "").strip() or None,
        "lineage": fields.get("lineage", "").strip() or lineages.MAIN,
        **_start(fields, picture, services=services),
    }
    try:
        return WhatIfWish(**{name: value for name, value in sent.items() if value is not None})
    except ValidationError as refused:
        faults = {dotted(fault["loc"]) or "start": str(fault["msg"]) for fault in refused.errors()}
        raise RequestInvalid(faults=faults) from None


def _start(fields: Fields, picture: bytes, *, services: Services) -> dict[str, Any]:
    """Where the rollouts start: a picture that came along, a kept one, or an observation of an episode."""
    kind, _, name = field(fields, "start").partition(":")
    if kind == "episode" and name:
        return {"episode": name, "step": _whole(fields, "step")}
    if kind == "image" and name:
        return _kept_picture(name, fields, services=services)
    if kind != UPLOAD:
        raise RequestInvalid(faults={"start": "expected a picture, a start image or an episode"})
    if not picture:
        raise RequestInvalid(faults={"picture": "expected a PNG or JPEG, or another start"})
    if len(picture) > MOST_BYTES:
        raise PictureUnusable(expected=f"at most {MOST_BYTES} bytes", found=f"{len(picture)}")
    return {"image": base64.b64encode(picture).decode()}


def _kept_picture(image_id: str, fields: Fields, *, services: Services) -> dict[str, Any]:
    with services.database.read() as session:
        try:
            row = start_images.get(session, image_id)
        except RowMissing:
            raise RequestInvalid(faults={"start": f"there is no start image {image_id}"}) from None
        sha256, instruction = (row.image or {})["sha256"], row.instruction
    image = base64.b64encode(services.blobs.read(sha256)).decode()
    return {"image": image, "instruction": fields.get("instruction", "").strip() or instruction}


def _whole(fields: Fields, name: str) -> int:
    text = field(fields, name)
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise RequestInvalid(faults={name: "expected a whole number"})
    return int(text)


def _form_page(
    request: Request, services: Services, *, sent: Mapping[str, str], refused: DaemonError | None = None
) -> Response:
    with services.database.read() as session:
        choices = _choices(session, start=sent["start"])
    return render(
        request,
        "what_if_form.html",
        status=200 if refused is None else STATUS[refused.code],
        sent=sent,
        refused=None if refused is None else str(refused),
        at=ASKED_AT,
        key=str(uuid.uuid4()),
        most_rollouts=MOST_ROLLOUTS,
        most_steps=MOST_STEPS,
        most_bytes=MOST_BYTES,
        newest=list_what_ifs(services, limit=LISTED)["items"],
        **choices,
    )


def _choices(session: Session, *, start: str) -> dict[str, Any]:
    """What can be chosen; an episode that a link named is among it, however old."""
    rows, _ = episodes.list_episodes(session, limit=OFFERED)
    offered = {
        f"episode:{row.id}": f"{row.task_id}, {row.committed_at:%Y-%m-%d %H:%M}, {row.id}" for row in rows
    }
    if start.startswith("episode:") and start not in offered:
        offered = {start: start.removeprefix("episode:"), **offered}
    known = tasks.list_tasks(session)
    policies, _ = checkpoints.list_checkpoints(session, kind="policy", limit=OFFERED)
    return {
        "episodes": offered,
        "images": {
            f"image:{row.id}": f"{row.task_id}: {row.instruction}" for row in start_images.present(session)
        },
        "instructions": sorted({row.instruction for row in known if row.instruction}),
        "policies": {row.id: f"number {row.number}" for row in policies if row.retired_at is None},
        "lineages": sorted({*lineages.names(session), lineages.MAIN}),
    }


def along_chart(result: Mapping[str, Any], place: int) -> Chart:
    """What the judge would say if this rollout ended at each frame; the line is how far it is trusted."""
    along = result["rollouts"][place]["along"]
    points = [Point(x=float(step), y=value) for step, value in enumerate(along) if value is not None]
    trusted = result["trusted_steps"]
    return Chart(
        key=f"along-{place}",
        title=f"Rollout {place + 1}: the judge's probability of success",
        series=[Series(name="probability", points=points)],
        across="step",
        span=(0.0, 1.0),
        marks=[]
        if trusted is None or trusted >= result["steps"]
        else [Mark(x=trusted, says="trusted until here")],
        cursor=True,
    )
