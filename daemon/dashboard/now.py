"""Now: how the robots stand, what the iteration of each lineage does, and the buttons that change it."""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from daemon.api.cameras import CAMERAS_AT, camera_record
from daemon.api.estop import stop_everything
from daemon.api.iteration_control import Act, acting, steered
from daemon.api.iterations import request_iteration
from daemon.api.pages import Number
from daemon.api.security import Actor
from daemon.api.services import Services, Wired, services_of
from daemon.dashboard.forms import Form, field
from daemon.dashboard.page import PageRoute, render
from daemon.dashboard.standing import controls, phase_bars
from daemon.errors import RequestInvalid, SpecInvalid
from daemon.events.words import SENTENCES, event_record
from daemon.iteration import iteration_standing
from daemon.run_log import log_path, read_tail
from daemon.scheduling.budgets import budgets_of
from daemon.scheduling.waiting import waiting_for
from daemon.spec import PHASES, IterationSpec, parse_spec
from daemon.station_card import station_card
from storage import events, iterations, lineages, phase_runs, steering
from storage.tables import IterationRow

router = APIRouter(route_class=PageRoute)

LOG_LINES = 30
LOG_CHARACTERS = 20_000
EVENTS_SHOWN = 10
LONGEST_KEY = 100
ACTS: Mapping[str, tuple[str, Act]] = {
    "pause": ("paused", acting(steering.pause)),
    "resume": ("resumed", acting(steering.resume)),
    "cancel": ("cancelled", acting(steering.cancel)),
    "retry": ("retried", acting(steering.retry)),
}


@router.get("/")
def show_now(request: Request, services: Wired) -> Response:
    """The first page."""
    return _page(request, services)


@router.post("/start")
def start(request: Request, services: Wired, actor: Actor, form: Form) -> Response:
    """Ask for an iteration; a spec that is refused comes back with what is wrong in it."""
    text, key = field(form, "spec"), field(form, "key")[:LONGEST_KEY] or str(uuid.uuid4())
    try:
        request_iteration(read_spec(text), Response(), services, actor, f"page-{key}")
    except SpecInvalid as refused:
        return _page(request, services, text=text, faults=refused.faults)
    return RedirectResponse("/", status_code=303)


@router.post("/iterations/{number}/skip")
def skip(number: Number, services: Wired, actor: Actor, form: Form) -> Response:
    """Let an iteration do without a phase."""
    phase = field(form, "phase")
    if phase not in PHASES:
        raise RequestInvalid(faults={"phase": f"expected one of {', '.join(PHASES)}"})

    def do(session: Session, iteration_id: str, now: datetime) -> object:
        return steering.skip(session, iteration_id, phase=phase, now=now)

    steered(services, number, act=f"skipped_{phase}", key=None, do=do, actor=actor)
    return RedirectResponse("/", status_code=303)


@router.post("/iterations/{number}/{act}")
def steer(number: Number, act: str, services: Wired, actor: Actor, form: Form) -> Response:
    """Pause, resume, cancel or retry an iteration."""
    if act not in ACTS:
        raise RequestInvalid(faults={"act": f"expected one of {', '.join(ACTS)}"})
    done, do = ACTS[act]
    steered(services, number, act=done, key=None, do=do, actor=actor)
    return RedirectResponse("/", status_code=303)


@router.post("/estop")
async def press_estop(request: Request, actor: Actor, form: Form) -> Response:
    """Stop every robot, then show how they stand."""
    await stop_everything(services_of(request), actor, reason=form.get("reason", "")[:LONGEST_KEY])
    return RedirectResponse("/", status_code=303)


def read_spec(text: str) -> IterationSpec:
    """The spec in a form, held against the same rules as one that comes over REST.

    Raises:
        SpecInvalid: it is no JSON, or no spec.
    """
    try:
        document = json.loads(text)
    except ValueError as error:  # JSONDecodeError, and numbers with too many digits
        raise SpecInvalid(faults={"spec": f"expected JSON, {error}"}) from None
    return parse_spec(document)


def _page(
    request: Request, services: Services, *, text: str | None = None, faults: Mapping[str, str] | None = None
) -> Response:
    with services.database.read() as session:
        open_rows = iterations.unfinished(session)
        newest, _ = iterations.list_iterations(session, limit=1)
        shown = [_shown(session, services, row) for row in iterations.turns(session) or newest]
        known = lineages.names(session)
        rows, _ = events.list_events(session, kinds=(), iteration=None, cursor=None, limit=EVENTS_SHOWN)
    services.cameras.ask()  # they answer while the stations are asked how they stand
    return render(
        request,
        "now.html",
        status=422 if faults else 200,
        stations=[station_card(standing) for standing in services.stations.look()],
        cameras=[camera_record(view) for view in services.cameras.look()],
        cameras_at=CAMERAS_AT,
        autoeval=services.settings.collect_via == "autoeval",
        shown=shown,
        several=len(known) > 1,
        queue=waiting_numbers(open_rows, shown),
        events=[event_record(row) for row in rows],
        spec=text if text is not None else _last_spec(newest),
        faults=faults or {},
        key=str(uuid.uuid4()),
        kinds=SENTENCES,
    )


def waiting_numbers(open_rows: Sequence[IterationRow], shown: Sequence[Mapping[str, Any]]) -> list[int]:
    """The unfinished iterations that wait for one that is told of."""
    told = {one["iteration"]["number"] for one in shown}
    return [row.number for row in open_rows if row.number not in told]


def _shown(session: Session, services: Services, row: IterationRow) -> dict[str, Any]:
    """An iteration that is told of, with its bars, its buttons and the end of its log."""
    now, budgets = services.now(), budgets_of(services.settings)
    record = {
        **iteration_standing(session, row),
        "waiting_for": waiting_for(session, row, budgets=budgets, now=now),
    }
    bars = phase_bars(record, now=now)
    skippable = [bar.phase for bar in bars if bar.state not in {"finished", "skipped"}]
    return {
        "iteration": record,
        "bars": bars,
        "controls": controls(record),
        "skippable": skippable if record["state"] not in {"finished", "cancelled"} else [],
        "log": _log(session, services, row),
    }


def _log(session: Session, services: Services, row: IterationRow) -> str | None:
    """The last lines of the attempt that began last; None where another machine has them."""
    begun = [run for run in phase_runs.of_iteration(session, row.id) if run.started_at is not None]
    if not begun:
        return None
    last = max(begun, key=lambda run: (run.started_at, run.queued_at))
    text = read_tail(log_path(services.settings.data_dir, last.id), LOG_LINES)
    return None if text is None else text[-LOG_CHARACTERS:]


def _last_spec(newest: list[IterationRow]) -> str:
    """What is offered to begin with: the last iteration's spec, or the defaults."""
    document = newest[0].spec if newest else IterationSpec().document()
    return json.dumps(document, indent=2)
