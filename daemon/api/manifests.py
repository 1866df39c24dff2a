"""What an iteration was made from, exactly, and what differs between two."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Response

from daemon.api.etags import knows
from daemon.api.pages import LARGEST_NUMBER, Number
from daemon.api.schemas import IterationDiff
from daemon.api.services import Wired
from daemon.iteration import find_iteration
from daemon.iteration_diff import iteration_diff
from daemon.iteration_manifest import iteration_manifest
from storage.canonical import canonical_json, json_digest

router = APIRouter(prefix="/v1/iterations", tags=["iterations"])

Other = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="the iteration to compare with")]
KnownTag = Annotated[str | None, Header(max_length=2000, description="an ETag of before: 304 while it holds")]


@router.get("/{number}/manifest", response_class=Response)
def get_manifest(number: Number, services: Wired, if_none_match: KnownTag = None) -> Response:
    """Give what each phase read and what came of it, as canonical JSON; the ETag is its sha256."""
    with services.database.read() as session:
        document = iteration_manifest(session, find_iteration(session, number))
    what = f"the manifest of iteration {number}"
    tag = f'"{json_digest(document, what=what)}"'
    if knows(if_none_match or "", tag):
        return Response(status_code=304, headers={"ETag": tag})
    text = canonical_json(document, what=what)
    return Response(text, media_type="application/json", headers={"ETag": tag})


@router.get("/{number}/diff/{other}", response_model=IterationDiff)
def get_diff(number: Number, other: Other, services: Wired) -> dict[str, Any]:
    """Give what differs from one iteration to another: spec, code, episodes, checkpoints, results."""
    with services.database.read() as session:
        rows = [find_iteration(session, each) for each in (number, other)]
        return iteration_diff(session, rows[0], rows[1])
