"""Whether anything was committed to a database since: one cheap question, exact, on SQLite and PostgreSQL."""

import sqlite3
import threading
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from storage.db import Database

SNAPSHOT: Final = sa.text("SELECT CAST(pg_current_snapshot() AS text)")


class ChangeMarks:
    """Marks of what is committed. Two that are equal have nothing but reading between them.

    SQLite counts for each connection what others have committed, so one is kept for it, which never writes.
    In PostgreSQL the mark is the snapshot itself: which transactions are seen, on the whole (primary) server.
    Any thread may ask.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened = 0

    @property
    def waits(self) -> bool:
        """Whether asking takes a way over the network."""
        return not self._database.is_sqlite

    def newest(self) -> str:
        """The mark of now. What is read after it was asked for is at least as new as it says.

        Raises:
            OperationalError: the database does not answer (SQLAlchemy's, or that of sqlite3).
        """
        if self._database.is_sqlite:
            return self._counted()
        with self._database.read() as session:
            return str(session.scalar(SNAPSHOT))

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _counted(self) -> str:
        with self._lock:
            if self._connection is None:
                self._connection = _reader(Path(str(self._database.url.database)))
                self._opened += 1
            (count,) = self._connection.execute("PRAGMA data_version").fetchone()
            return f"{self._opened}.{count}"


def _reader(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=0.0,  # who asks can do without a mark, and may be an event loop
    )
