"""Settings: schedules, robot hours, stations, webhooks, upkeep, tokens. No secret and no address is shown."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from daemon.api.callers import Caller
from daemon.api.etags import etag
from daemon.api.schedules import ScheduleId, list_schedules, patch_schedule, run_schedule_now
from daemon.api.security import Actor
from daemon.api.services import Services, Wired
from daemon.api.station_hours import get_hours
from daemon.dashboard.forms import Form, field
from daemon.dashboard.page import PageRoute, render
from daemon.errors import RequestInvalid
from daemon.events.words import sentence
from daemon.operations.gc import ITERATIONS_KEPT
from daemon.scheduling.documents import ScheduleChange
from daemon.settings import Settings
from daemon.upkeep import BACKUP, GC, last_of
from storage import access_tokens, station_hours, stations, webhooks

router = APIRouter(route_class=PageRoute)

SHOWN = (  # of the settings: what people ask about, and nothing that is a secret or says where one lies
    "collect_via",
    "robot_episodes_per_day",
    "judge_usd_per_day",
    "device_hours_per_day",
    "device_hours_per_iteration",
    "worker_count",
    "preset",
    "imagination_engine",
    "min_free_disk_mb",
    "backups_kept",
    "iterations_kept",
    "episode_days_kept",
    "upkeep_at",
    "rate_limit_per_s",
)
SWITCH = {"enable": True, "disable": False}


@router.get("/settings")
def show_settings(request: Request, services: Wired) -> Response:
    """Everything that is set, for whoever may read; tokens for those who may make them."""
    caller: Caller = request.state.caller
    sees_tokens = "admin" in caller.scopes
    with services.database.read() as session:
        with_hours = {row.station_id for row in station_hours.list_hours(session)}
        known = {row.id: row for row in stations.list_stations(session)}
        told = {row.name: row for row in webhooks.all_rows(session)}
        tokens = access_tokens.list_tokens(session) if sees_tokens else []
        upkeep = [upkeep_of(session, services.settings, work) for work in (BACKUP, GC)]
    return render(
        request,
        "settings.html",
        schedules=list_schedules(services)["items"],
        stations=[
            {"id": name, "row": known.get(name), **hours_of(services, name)}
            for name in sorted(with_hours | known.keys())
        ],
        webhooks=[(hook, told.get(hook.name)) for hook in services.settings.webhooks],
        tokens=tokens,
        upkeep=upkeep,
        sees_tokens=sees_tokens,
        values={name: getattr(services.settings, name) for name in SHOWN},
    )


@router.post("/schedules/{schedule_id}/run")
def run_schedule(schedule_id: ScheduleId, services: Wired, actor: Actor, form: Form) -> Response:
    """Ask for one iteration besides the schedule's times."""
    run_schedule_now(schedule_id, Response(), services, actor, f"page-{field(form, 'key')[:60]}")
    return RedirectResponse("/", status_code=303)


@router.post("/schedules/{schedule_id}/{switch}")
def switch_schedule(
    schedule_id: ScheduleId, switch: str, services: Wired, actor: Actor, form: Form
) -> Response:
    """Enable or disable a schedule, as it was when the page was made."""
    if switch not in SWITCH:
        raise RequestInvalid(faults={"switch": f"expected one of {', '.join(SWITCH)}"})
    change = ScheduleChange(enabled=SWITCH[switch])
    patch_schedule(schedule_id, change, Response(), services, actor, etag(version_of(form)))
    return RedirectResponse("/settings", status_code=303)


def upkeep_of(session: Session, settings: Settings, work: str) -> dict[str, Any]:
    """Whether the daemon backs up or collects garbage by itself, what stays, and how the last time went."""
    last = last_of(session, work)
    return {
        "work": work,
        "every": f"every day at {settings.upkeep_at} UTC" if does_itself(settings, work) else None,
        "keeps": what_stays(settings, work),
        "at": None if last is None else last.at,
        "says": None if last is None else sentence(last.kind, None, facts=last.facts),
        "failed": last is not None and last.kind.endswith("_failed"),
    }


def does_itself(settings: Settings, work: str) -> bool:
    if work == BACKUP:
        return settings.backup_dir is not None
    return settings.iterations_kept is not None or settings.episode_days_kept is not None


def what_stays(settings: Settings, work: str) -> str:
    """What a backup or gc leaves, for people."""
    if work == BACKUP:
        return f"{settings.backups_kept} backups"
    iterations = f"what the {settings.iterations_kept or ITERATIONS_KEPT} newest iterations made"
    days = settings.episode_days_kept
    return f"{iterations}; {'all episodes' if days is None else f'episodes of {days:g} days'}"


def version_of(form: dict[str, str]) -> int:
    """The version that a form was made from.

    Raises:
        RequestInvalid: it is no number.
    """
    said = field(form, "version")
    if not (said.isascii() and said.isdigit() and len(said) <= 9):
        raise RequestInvalid(faults={"version": "expected a number"})
    return int(said)


def hours_of(services: Services, station_id: str) -> dict[str, Any]:
    """When a station may move, as the API says it."""
    found = get_hours(station_id, Response(), services)
    return {name: found[name] for name in ("hours", "open_now", "waiting_for")}
