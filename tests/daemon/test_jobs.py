"""What the daemon does by itself: every job has a name and a pace, and none takes the others down."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.events import alarms, disk, webhooks
from daemon.events.feed import LOOK_EVERY_S, Feed
from daemon.events.stations import LOOK_EVERY_S as STATIONS_EVERY_S
from daemon.events.webhooks import Webhooks
from daemon.jobs import jobs, upkeep_job
from daemon.scheduler import Job, Scheduler
from daemon.settings import Settings
from daemon.station_watch import StationWatch
from daemon.supervisor import Supervisor
from daemon.upkeep import Upkeep
from storage import events
from storage.blobs import BlobStore
from storage.errors import DiskFull


@pytest.fixture
def settings(tmp_path) -> Settings:
    nobody = "http://127.0.0.1:9"
    return Settings(data_dir=tmp_path, worker_count=0, min_free_disk_mb=10**9, station_url=nobody)


@pytest.fixture
def stations(settings):
    watch = StationWatch(settings)
    yield watch
    watch.close()


@pytest.fixture
def work(settings, sqlite_database, tmp_path, now, stations) -> dict[str, Job]:
    found = jobs(
        settings,
        sqlite_database,
        BlobStore(tmp_path / "blobs"),
        feed=Feed(sqlite_database),
        hooks=Webhooks((), sqlite_database, now=lambda: now),
        stations=stations,
    )
    own = upkeep_job(Upkeep(settings, sqlite_database))
    return {job.name: job for job in (*found, own)}


def test_every_job_has_a_name_of_its_own_and_its_own_pace(work):
    paces = {name: work[name].every_s for name in ("events", "webhooks", "disk", "alarms", "stations")}
    assert paces == {
        "events": LOOK_EVERY_S,
        "webhooks": webhooks.LOOK_EVERY_S,
        "disk": disk.LOOK_EVERY_S,
        "alarms": alarms.LOOK_EVERY_S,
        "stations": STATIONS_EVERY_S,
    }
    sweeps = [job for job in work.values() if job.every_s >= 3600]
    assert {job.name for job in sweeps} >= {"sweep_blobs", "sweep_work"}
    assert {job.every_s for job in sweeps} == {86_400.0}
    assert all(job.first_after_s > 0 for job in sweeps), "a daemon that has just begun does not sweep"


def test_every_job_can_be_done_on_an_empty_store(work, now):
    assert {name: job.run(now) for name, job in work.items()} == dict.fromkeys(work)


def test_a_disk_that_is_nearly_full_is_told_once(work, sqlite_database, now):
    for _ in range(3):
        work["disk"].run(now)
    with sqlite_database.read() as session:
        told = [row.kind for row in events.after(session, 0, kinds=("disk_low",), limit=10)]
    assert told == ["disk_low"]


def test_a_job_that_fails_is_logged_and_done_again_at_its_next_time(
    settings, sqlite_database, tmp_path, caplog
):
    tries = []

    def fails(at: datetime) -> str | None:
        tries.append(at)
        if len(tries) == 1:
            raise DiskFull(needed=100, free=7, path=tmp_path)
        return "room again"

    caplog.set_level("INFO")
    job = Job(name="fragile", run=fails, every_s=0.01)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    clock = iter(at + timedelta(seconds=second) for second in range(10))
    scheduler = Scheduler(
        sqlite_database, Supervisor(settings=settings), now=lambda: next(clock), jobs=(job,)
    )
    scheduler.run(job)
    scheduler.run(job)
    assert len(tries) == 2
    assert "job failed job=fragile code=disk_full" in caplog.text
    assert "room again" in caplog.text
