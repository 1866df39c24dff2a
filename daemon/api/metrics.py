"""Numbers for Prometheus: of the database, of the machine, of this process."""

import platform
from importlib.metadata import version

from fastapi import APIRouter, Request, Response

from daemon.api.request_counts import RequestCounts
from daemon.api.services import Services, Wired
from daemon.disk import free_bytes
from daemon.exposition import MEDIA_TYPE, Family, Sample, gauge, render

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=Response)
def get_metrics(request: Request, services: Wired) -> Response:
    """Give everything in Prometheus' text format; what the database says is at most 5 s old."""
    counts: RequestCounts = request.app.state.request_counts
    families = [*_of_process(services), *services.measurements.families(), *counts.families()]
    return Response(render(families), media_type=MEDIA_TYPE)


def _of_process(services: Services) -> list[Family]:
    build = {"version": version("gymnast-daemon"), "python": platform.python_version()}
    return [
        Family(
            name="gymnastd_build_info",
            kind="gauge",
            meaning="Always 1; the labels say what runs.",
            samples=(Sample(value=1, labels=build),),
        ),
        gauge("gymnastd_workers_alive", "Worker processes that run now.", services.supervisor.alive()),
        gauge("gymnastd_workers_wanted", "Worker processes that should run.", services.settings.worker_count),
        gauge(
            "gymnastd_disk_free_bytes",
            "Free bytes where the data directory is.",
            free_bytes(services.settings.data_dir),
        ),
        gauge("gymnastd_event_streams", "Event streams that are open.", services.feed.listeners),
    ]
