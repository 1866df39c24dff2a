"""What the daemon does by itself, again and again, besides iterations: one line each."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from daemon.disk import LOW, MB
from daemon.events import alarms, disk, webhooks
from daemon.events.disk import GB
from daemon.events.feed import LOOK_EVERY_S as FEED_EVERY_S
from daemon.events.feed import Feed
from daemon.events.stations import LOOK_EVERY_S as STATIONS_EVERY_S
from daemon.events.stations import look_at_stations
from daemon.events.webhooks import Webhooks
from daemon.iteration_spans import LOOK_EVERY_S as SPANS_EVERY_S
from daemon.iteration_spans import IterationSpans
from daemon.scheduler import Job
from daemon.scheduling.sweeps import SWEEP_EVERY_S, SWEEP_FIRST_AFTER_S, sweeps
from daemon.settings import Settings
from daemon.station_watch import StationWatch
from daemon.stores import utc_now
from daemon.tracing import on
from daemon.upkeep import LOOK_EVERY_S as UPKEEP_EVERY_S
from daemon.upkeep import Upkeep
from daemon.worlds import tending
from storage.blobs import BlobStore
from storage.db import Database

UPKEEP_FIRST_AFTER_S = 60.0  # a daemon that has just started has better things to do


def jobs(
    settings: Settings,
    database: Database,
    blobs: BlobStore,
    *,
    feed: Feed,
    hooks: Webhooks,
    stations: StationWatch,
) -> list[Job]:
    """The jobs of one daemon, for its scheduler."""
    low_gb = LOW * settings.min_free_disk_mb * MB / GB
    look_at_disk = partial(disk.watch_disk, database, settings.data_dir, low_gb=low_gb, now=utc_now)
    spans = [Job(name="spans", run=IterationSpans(database).look, every_s=SPANS_EVERY_S)] if on() else []
    return [
        *spans,
        Job(name="events", run=_quietly(feed.look), every_s=FEED_EVERY_S),
        Job(name="webhooks", run=_quietly(hooks.deliver), every_s=webhooks.LOOK_EVERY_S),
        Job(name="disk", run=_quietly(look_at_disk), every_s=disk.LOOK_EVERY_S),
        Job(
            name="alarms",
            run=alarms.AlarmWatch(database).look,
            every_s=alarms.LOOK_EVERY_S,
            first_after_s=alarms.LOOK_EVERY_S,
        ),
        Job(
            name="stations",
            run=partial(look_at_stations, database=database, stations=stations),
            every_s=STATIONS_EVERY_S,
            first_after_s=STATIONS_EVERY_S,
        ),
        Job(
            name="what_ifs",
            run=partial(tending.tend_what_ifs, database=database),
            every_s=tending.LOOK_EVERY_S,
        ),
        *(
            Job(name=name, run=run, every_s=SWEEP_EVERY_S, first_after_s=SWEEP_FIRST_AFTER_S)
            for name, run in sweeps(database, blobs, settings.data_dir).items()
        ),
    ]


def upkeep_job(upkeep: Upkeep) -> Job:
    """Backups and gc; apart, because whoever starts it also stops what it runs."""
    return Job(name="upkeep", run=upkeep.look, every_s=UPKEEP_EVERY_S, first_after_s=UPKEEP_FIRST_AFTER_S)


def _quietly(work: Callable[[], None]) -> Callable[[datetime], None]:
    """A job that has nothing for the log."""

    def run(_: datetime) -> None:
        work()

    return run
