"""The logs of phase runs, as their workers wrote them."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from daemon.api.pages import LARGEST_NUMBER, Number
from daemon.api.services import Wired
from daemon.errors import PageNotFound
from daemon.iteration import find_iteration
from daemon.run_log import log_path, read_tail
from storage import phase_runs

router = APIRouter(prefix="/v1/iterations", tags=["iterations"])

Phase = Annotated[str, Path(max_length=32, description="the phase's name")]
Attempt = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="which attempt at it")]
Tail = Annotated[int, Query(ge=1, le=5000, description="how many lines of the end")]


@router.get(
    "/{number}/phases/{phase}/{attempt}/log",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
def get_log(number: Number, phase: Phase, attempt: Attempt, services: Wired, tail: Tail = 200) -> Response:
    """Give the last lines that the worker wrote in this attempt. 404 where another machine has them."""
    with services.database.read() as session:
        runs = phase_runs.of_iteration(session, find_iteration(session, number).id)
    run = next((run for run in runs if (run.phase, run.attempt) == (phase, attempt)), None)
    text = None if run is None else read_tail(log_path(services.settings.data_dir, run.id), tail)
    if text is None:
        raise PageNotFound(what=f"log of iteration {number}, {phase}, attempt", key=attempt)
    return Response(text, media_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"})
