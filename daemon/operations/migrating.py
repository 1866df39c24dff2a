"""Where the database's tables are, and the way back to an earlier release's."""

from daemon.data_directory import DataDirectoryLock
from daemon.operations.errors import RevisionUnknown
from daemon.settings import Settings
from daemon.stores import open_database
from storage.db import known_revisions


def revisions(settings: Settings) -> tuple[str | None, str]:
    """The revision that the database is at, and the newest that this release has."""
    database = open_database(settings)
    try:
        return database.revision(), known_revisions()[-1]
    finally:
        database.dispose()


def downgrade(settings: Settings, revision: str) -> str | None:
    """Undo migrations down to a revision while nobody serves; the revision that the database is at then.

    Raises:
        RevisionUnknown: this release has no such revision.
        DataDirectoryBusy: a daemon runs on it.
        DatabaseNewer: a later release's migrations can only be undone by it.
    """
    known = known_revisions()
    if revision not in {*known, "base"}:
        raise RevisionUnknown(revision=revision, known=known)
    with DataDirectoryLock(settings.data_dir):
        database = open_database(settings)
        try:
            database.downgrade(revision)
            return database.revision()
        finally:
            database.dispose()
