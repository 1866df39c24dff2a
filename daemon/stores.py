"""Where the settings say that episodes, rows and checkpoints are: opened the same way by every process."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from daemon.errors import ClockSkewed, SettingInvalid
from daemon.settings import Settings
from storage.blobs import BlobStore
from storage.db import Database, default_url


def open_database(settings: Settings) -> Database:
    """The database that the settings name: their URL, or the SQLite file of the data directory.

    Raises:
        SettingInvalid: the file of the database's password cannot be read.
        DatabaseUrlInvalid: the URL is of no database that is supported.
    """
    if settings.database_url is None or settings.database_password_file is None:
        return Database(settings.database_url or default_url(settings.data_dir))
    return Database(with_password(settings.database_url, settings.database_password_file))


def with_password(url: str, file: Path) -> str:
    """A database's URL with the password in a file; a line's end there is not part of it.

    Raises:
        SettingInvalid: the file cannot be read, or the URL has a password already.
    """
    address = urlsplit(url)
    try:
        password = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(faults={"database_password_file": f"{file}: {error}"}) from None
    if not address.username or address.password is not None:
        raise SettingInvalid(
            faults={"database_url": "expected a user and no password beside a password file"}
        )
    user, _, place = address.netloc.rpartition("@")
    return urlunsplit(address._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))


def open_blobs(settings: Settings) -> BlobStore:
    """The blob store of the data directory."""
    return BlobStore(settings.data_dir / "blobs")


def utc_now() -> datetime:
    """The wall clock of the daemon's processes."""
    return datetime.now(UTC)


def require_same_clock(
    database: Database, settings: Settings, *, now: Callable[[], datetime] = utc_now
) -> None:
    """Refuse to go by leases on a machine whose clock is another than the others'.

    A database that does not answer is no refusal: then no lease is taken either.

    Raises:
        ClockSkewed: it is off by more than a quarter of a lease.
    """
    limit_s = clock_limit_s(settings)
    try:
        ahead_s = clock_ahead_s(database, now=now)
    except OperationalError:
        return
    if abs(ahead_s) > limit_s:
        raise ClockSkewed(ahead_s=ahead_s, limit_s=limit_s)


def clock_limit_s(settings: Settings) -> float:
    """How far the clocks of two machines that share a database may be apart."""
    return settings.lease_ttl_s / 4


def clock_ahead_s(database: Database, *, now: Callable[[], datetime] = utc_now) -> float:
    """By how many seconds at least this machine's clock is before the database's; negative behind it.

    SQLite's is this machine's own.
    """
    if database.is_sqlite:
        return 0.0
    with database.read() as session:
        session.connection()  # connecting may take its time
        before = now()
        its: datetime = session.scalars(sa.text("SELECT clock_timestamp()")).one()
        after = now()
    return (min(max(before, its), after) - its).total_seconds()
