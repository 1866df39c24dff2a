"""What the routes work with, made by the composition root and found on the application."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request

from daemon.api.callers import Callers
from daemon.api.kept_answers import KeptAnswers
from daemon.api.kept_counts import KeptCounts
from daemon.api.sessions import Sessions
from daemon.events.feed import Feed
from daemon.measurements import Measurements
from daemon.settings import Settings
from daemon.station_cameras import StationCameras
from daemon.station_watch import StationWatch
from daemon.supervisor import Supervisor
from storage.blobs import BlobStore
from storage.db import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of one running daemon. `scheduling` says whether the state machine is being advanced."""

    settings: Settings
    database: Database
    blobs: BlobStore
    callers: Callers
    answers: KeptAnswers
    counts: KeptCounts
    sessions: Sessions
    supervisor: Supervisor
    feed: Feed
    measurements: Measurements
    stations: StationWatch
    cameras: StationCameras
    scheduling: Callable[[], bool]
    now: Callable[[], datetime]


def services_of(request: Request) -> Services:
    """Give the services of the application that got this request."""
    services: Services = request.app.state.services
    return services


Wired = Annotated[Services, Depends(services_of)]
