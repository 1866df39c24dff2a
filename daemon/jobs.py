"""What the daemon does by itself, again and again, besides iterations: one line each."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from daemon.events import disk, webhooks
from daemon.events.feed import LOOK_EVERY_S as FEED_EVERY_S
from daemon.events.feed import Feed
from daemon.events.webhooks import Webhooks
from daemon.scheduler import Job
from daemon.scheduling.sweeps import SWEEP_EVERY_S, SWEEP_FIRST_AFTER_S, sweeps
from daemon.settings import Settings
from daemon.stores import utc_now
from daemon.worlds import tending
from storage.blobs import BlobStore
from storage.db import Database


def jobs(
    settings: Settings, database: Database, blobs: BlobStore, *, feed: Feed, hooks: Webhooks
) -> list[Job]:
    """The jobs of one daemon, for its scheduler."""
    look_at_disk = partial(
        disk.watch_disk, database, settings.data_dir, low_gb=settings.disk_low_gb, now=utc_now
    )
    return [
        Job(name="events", run=_quietly(feed.look), every_s=FEED_EVERY_S),
        Job(name="webhooks", run=_quietly(hooks.deliver), every_s=webhooks.LOOK_EVERY_S),
        Job(name="disk", run=_quietly(look_at_disk), every_s=disk.LOOK_EVERY_S),
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


def _quietly(work: Callable[[], None]) -> Callable[[datetime], None]:
    """A job that has nothing for the log."""

    def run(_: datetime) -> None:
        work()

    return run
