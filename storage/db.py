"""The database: one engine, sessions that read, sessions that write, and the way to the newest tables.

SQLite (a file, write-ahead log) and PostgreSQL behave alike to callers: `read` sees one snapshot and cannot
write, `write` is one transaction that commits as a whole or leaves nothing. Queries live elsewhere.
"""

import json
import logging
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from storage import events
from storage.errors import DatabaseNewer, DatabaseOutdated, DatabaseUrlInvalid
from storage.postgres import LOCK_WAIT_S, SILENCE_S, postgres_engine, take_time

log = logging.getLogger(__name__)

SQLITE_NAME = "gymnastd.sqlite3"
BUSY_TIMEOUT_MS = round(1000 * LOCK_WAIT_S)  # how long a writer waits for the writer before it
WAL_RETRY_S = 0.02  # between two tries at switching a new database to write-ahead logging
CACHE_KIB = 512  # of each connection; the system's own cache has the rest
KEPT_CONNECTIONS = 8  # those beyond are opened for one transaction each, which costs more than most of these
MIGRATION_LOCK = "migrations"
EVENT_LOCK = "events"


def default_url(data_dir: Path) -> str:
    """The SQLite file that is used when no database is named."""
    return f"sqlite:///{data_dir.resolve() / SQLITE_NAME}"


class Database:
    """One database of the daemon; share it between threads, never between processes.

    Nothing waits for it without an end; what that is, of PostgreSQL, is in `postgres`.

    Args:
        silence_s: of PostgreSQL's server, after which a connection is given up.

    Raises:
        DatabaseUrlInvalid: the url names neither a SQLite file nor PostgreSQL.
    """

    def __init__(self, url: str, *, silence_s: float = SILENCE_S) -> None:
        self.url = _checked_url(url)
        if self.is_sqlite:
            Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)
        self.engine = (
            _sqlite_engine(self.url) if self.is_sqlite else postgres_engine(self.url, silence_s=silence_s)
        )
        self._readers = self.engine.execution_options(**_reading(self.is_sqlite))
        self._writers = self.engine.execution_options(gymnastd_mode="write")

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on one snapshot; writing in it is an error of the database."""
        with _pool_that_errs(), Session(self._readers, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is one transaction: committed when the block ends, undone when it raises.

        It takes SQLite's write lock at its first statement, so what is done before (files, hashes) holds
        nobody up. Rows stay readable after the block. Events that were noted are written last.
        """
        with (
            _pool_that_errs(),
            Session(self._writers, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session
            _write_events(session)

    def upgrade(self, revision: str = "head") -> None:
        """Bring the tables to the newest revision; several callers at once wait for each other.

        Raises:
            DatabaseNewer: the database was made by a later release.
        """
        self._migrate(lambda config: command.upgrade(config, revision))

    def downgrade(self, revision: str) -> None:
        """Undo migrations down to a revision; "base" empties the database."""
        self._migrate(lambda config: command.downgrade(config, revision))

    def revision(self) -> str | None:
        """The revision that the database is at; none before the first upgrade."""
        with self.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def require_current(self) -> None:
        """Check that the database answers and has this release's tables.

        Raises:
            DatabaseOutdated: migrations are missing.
            DatabaseNewer: the database was made by a later release.
        """
        found, scripts = self.revision(), _scripts()
        newest = str(scripts.get_current_head())
        _refuse_newer(found, scripts)
        if found != newest:
            raise DatabaseOutdated(found=found, newest=newest)

    def dispose(self) -> None:
        """Close every connection; the object can be used again afterwards."""
        self.engine.dispose()

    def _migrate(self, step: Callable[[Config], None]) -> None:
        config = _config()
        with (
            self._writers.connect() as connection,
            self._without_foreign_keys(connection),
            connection.begin(),
        ):
            take_time(connection)
            _lock(connection, MIGRATION_LOCK)
            found = MigrationContext.configure(connection).get_current_revision()
            _refuse_newer(found, _scripts())
            config.attributes["connection"] = connection
            step(config)
        revision = self.revision()
        if revision != found:
            log.info("database migrated backend=%s revision=%s", self.url.get_backend_name(), revision)

    @contextmanager
    def _without_foreign_keys(self, connection: sa.Connection) -> Iterator[None]:
        """SQLite rebuilds a table to alter it; the rows that point at it must not be dragged along."""
        if not self.is_sqlite:
            yield
            return
        driver = cast(sqlite3.Connection, connection.connection.driver_connection)
        driver.execute("PRAGMA foreign_keys = OFF")  # without effect inside a transaction, so before it
        try:
            yield
        finally:
            driver.execute("PRAGMA foreign_keys = ON")


@contextmanager
def _pool_that_errs() -> Iterator[None]:
    """A pool whose connections all stay away is the database's failure, as one connection that does."""
    try:
        yield
    except sa.exc.TimeoutError as waited:
        raise sa.exc.OperationalError("waiting for a connection", None, waited) from waited


def _write_events(session: Session) -> None:
    """Write what the transaction noted, one transaction at a time, so that ids rise as commits do.

    Everything else is flushed before: the lock is the last that a transaction takes, so nobody who holds it
    waits for anybody.
    """
    if events.NOTED in session.info:
        session.flush()
        rows = events.settle(session)
        serialise(session, EVENT_LOCK)
        session.add_all(rows)


def serialise(session: Session, name: str) -> None:
    """Let one transaction at a time pass, per name, until it ends.

    SQLite has a single writer anyway; PostgreSQL takes an advisory lock.
    """
    _lock(session.connection(), name)


def _lock(connection: sa.Connection, name: str) -> None:
    if connection.dialect.name == "postgresql":
        key = zlib.crc32(f"gymnastd:{name}".encode())
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def _checked_url(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise DatabaseUrlInvalid(url=repr(url[:20])) from error
    if parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"} and parsed.database not in {None, "", ":memory:"}:
        return parsed
    raise DatabaseUrlInvalid(url=parsed.render_as_string(hide_password=True))


def _reading(is_sqlite: bool) -> dict[str, Any]:
    if is_sqlite:
        return {"gymnastd_mode": "read"}
    return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(
        url, json_serializer=partial(json.dumps, allow_nan=False), pool_size=KEPT_CONNECTIONS
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; _begin_sqlite does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    _switch_to_wal(cursor)
    for pragma in ("synchronous = FULL", "foreign_keys = ON", f"cache_size = -{CACHE_KIB}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _switch_to_wal(cursor: DBAPICursor) -> None:
    """SQLite does not wait its busy timeout for this switch, and a new file may be opened twice at once."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(WAL_RETRY_S)


def _begin_sqlite(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get("gymnastd_mode") == "read"
    connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if reading else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("migrations")).replace("%", "%%"))
    return config


@cache
def _scripts() -> ScriptDirectory:
    """This release's migrations; they do not change while it runs."""
    return ScriptDirectory.from_config(_config())


def known_revisions() -> list[str]:
    """This release's revisions, the oldest first."""
    return [script.revision for script in _scripts().walk_revisions()][::-1]


def _refuse_newer(found: str | None, scripts: ScriptDirectory) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    if found is not None and found not in known:
        raise DatabaseNewer(found=found, newest=str(scripts.get_current_head()))
