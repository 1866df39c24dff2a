"""`gymnastd doctor`: every check, one after the other, each with what to do about what it found."""

from collections.abc import Callable, Generator, Iterator
from datetime import datetime

from daemon.operations.findings import Finding, warning
from daemon.operations.machine_checks import (
    check_accelerator,
    check_clock,
    check_data_directory,
    check_disk,
    check_packages,
)
from daemon.operations.network_checks import check_judge, check_stations
from daemon.operations.store_checks import (
    check_blobs,
    check_checkpoints,
    check_database,
    check_its_clock,
    check_leases,
    check_runs,
    newest_time,
)
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database
from storage.db import SQLITE_NAME

Now = Callable[[], datetime]


def examine(settings: Settings, *, deep: bool, now: Now) -> Iterator[Finding]:
    """Look at everything; findings come as they are made.

    Args:
        deep: also read every checkpoint and compare its digest.
    """
    yield check_disk(settings)
    yield check_data_directory(settings.data_dir)
    newest = yield from _stored(settings, deep=deep, now=now)
    yield check_clock(newest, now=now)
    yield from check_stations(settings)
    yield check_judge(settings)
    yield from check_packages()
    yield check_accelerator()


def _stored(settings: Settings, *, deep: bool, now: Now) -> Generator[Finding, None, datetime | None]:
    """Database and files; a database that is not there yet is not made by looking.

    Returns:
        The newest time in it.
    """
    if settings.database_url is None and not (settings.data_dir / SQLITE_NAME).is_file():
        yield warning("database", "there is none yet", "`gymnastd serve` or `gymnastd db upgrade` makes it")
        return None
    database = open_database(settings)
    try:
        yield from (found := check_database(database))
        if any(finding.check == "database" and finding.verdict == "fault" for finding in found):
            return None
        yield check_its_clock(database, settings, now=now)
        blobs = open_blobs(settings)
        with database.read() as session:
            yield from check_checkpoints(session, blobs, deep=deep)
            yield from check_blobs(session, blobs)
            yield check_leases(session, now=now())
            yield from check_runs(session, settings, now=now())
            return newest_time(session)
    finally:
        database.dispose()
