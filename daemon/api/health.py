"""Is the process alive, and can it work? Two questions, because a restart helps with the first only."""

import logging
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy.exc import SQLAlchemyError

from daemon.api.callers import Caller
from daemon.api.schemas import Liveness, Readiness
from daemon.api.services import Services, Wired
from daemon.disk import DiskGuard
from daemon.errors import NotReady
from daemon.settings import Settings
from storage.errors import StorageError

log = logging.getLogger(__name__)
router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=Liveness)
def alive() -> dict[str, str]:
    """Answer, which is all there is to it."""
    return {"status": "ok"}


@router.get("/readyz", response_model=Readiness, response_model_exclude_none=True)
def ready(request: Request, services: Wired) -> dict[str, Any]:
    """Say whether iterations can be worked on: database, state machine, workers, disk. 503 if not.

    While tokens are asked for, what was found is told to those with the scope read only.
    """
    checks = {
        "database": _database(services),
        "scheduler": "ok" if services.scheduling() else "not running",
        "workers": _workers(services),
        "disk": _disk(services.settings),
    }
    caller: Caller = request.state.caller
    told = checks if "read" in caller.scopes else None
    if failing := {name: found for name, found in checks.items() if found != "ok"}:
        log.warning("daemon not ready checks=%s", failing)
        raise NotReady(checks=told)
    return {"status": "ok", "checks": told}


def _database(services: Services) -> str:
    try:
        services.database.require_current()
    except (StorageError, SQLAlchemyError) as failed:
        return f"{type(failed).__name__}: {failed}"
    return "ok"


def _disk(settings: Settings) -> str:
    guard = DiskGuard(folder=settings.data_dir, min_free_mb=settings.min_free_disk_mb)
    return guard.shortage() or "ok"


def _workers(services: Services) -> str:
    wanted, alive_now = services.settings.worker_count, services.supervisor.alive()
    return "ok" if alive_now >= wanted else f"{alive_now} of {wanted} alive"
