"""Where the settings say that episodes, rows and checkpoints are: opened the same way by every process."""

from datetime import UTC, datetime

from daemon.settings import Settings
from storage.blobs import BlobStore
from storage.db import Database, default_url


def open_database(settings: Settings) -> Database:
    """The database that the settings name: their URL, or the SQLite file of the data directory."""
    return Database(settings.database_url or default_url(settings.data_dir))


def open_blobs(settings: Settings) -> BlobStore:
    """The blob store of the data directory."""
    return BlobStore(settings.data_dir / "blobs")


def utc_now() -> datetime:
    """The wall clock of the daemon's processes."""
    return datetime.now(UTC)
