"""Sessions: one snapshot to read, one transaction to write, the same on both databases."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import audit, tasks
from storage.db import BUSY_TIMEOUT_MS, CACHE_KIB, KEPT_CONNECTIONS, Database, default_url, serialise
from storage.errors import DatabaseNewer, DatabaseOutdated, DatabaseUrlInvalid
from storage.tables import StationRow, TaskRow


def task_ids(database: Database) -> list[str]:
    with database.read() as session:
        return [task.id for task in tasks.list_tasks(session)]


def test_a_write_is_kept_when_its_block_ends(database: Database, now: datetime) -> None:
    with database.write() as session:
        tasks.ensure(session, "open_drawer", instruction="open the drawer", now=now)
    assert task_ids(database) == ["open_drawer"]


def test_a_write_that_raises_leaves_nothing(database: Database, now: datetime) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as session:
        tasks.ensure(session, "open_drawer", instruction="", now=now)
        session.flush()
        _ = 1 / 0
    assert task_ids(database) == []


def test_rows_stay_readable_after_their_session(database: Database, now: datetime) -> None:
    with database.write() as session:
        written = tasks.ensure(session, "open_drawer", instruction="open the drawer", now=now)
    assert (written.id, written.instruction, written.registered_at) == ("open_drawer", "open the drawer", now)


def test_a_reading_session_cannot_write(database: Database, now: datetime) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=r"(?i)read-?only"), database.read() as session:
        tasks.ensure(session, "open_drawer", instruction="", now=now)
    assert task_ids(database) == []


def test_writing_is_possible_after_reading_on_the_same_connection(database: Database, now: datetime) -> None:
    for name in ("a", "b"):
        assert name not in task_ids(database)
        with database.write() as session:
            tasks.ensure(session, name, instruction="", now=now)
    assert task_ids(database) == ["a", "b"]


def test_a_reading_session_sees_one_snapshot(database: Database, now: datetime) -> None:
    count = sa.select(sa.func.count()).select_from(TaskRow)
    with database.read() as reader:
        assert reader.scalar(count) == 0
        with database.write() as session:
            tasks.ensure(session, "open_drawer", instruction="", now=now)
        assert reader.scalar(count) == 0
    with database.read() as reader:
        assert reader.scalar(count) == 1


def test_readers_are_not_held_up_by_a_writer(database: Database, now: datetime) -> None:
    with database.write() as session:
        tasks.ensure(session, "open_drawer", instruction="", now=now)
        assert task_ids(database) == []
    assert task_ids(database) == ["open_drawer"]


def test_what_is_done_before_the_first_statement_holds_no_writer_up(
    database: Database, now: datetime
) -> None:
    """Hashing and writing files comes first in a block; another writer may pass meanwhile."""
    with database.write() as outer:
        with database.write() as inner:
            tasks.ensure(inner, "inner", instruction="", now=now)
        tasks.ensure(outer, "outer", instruction="", now=now)
    assert task_ids(database) == ["inner", "outer"]


def test_writers_in_threads_wait_for_each_other_and_lose_nothing(database: Database, now: datetime) -> None:
    def add_one(number: int) -> None:
        with database.write() as session:
            serialise(session, "counting")
            seen = len(audit.read(session, limit=1000))
            audit.write(session, "test", action="count", subject="x", facts={"seen": seen}, now=now)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_one, range(20)))
    with database.read() as session:
        facts = [event.facts["seen"] for event in audit.read(session)]
    assert sorted(facts) == list(range(20))


def test_serialise_lets_different_names_pass(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has one writer whatever the name")
    passed = threading.Event()

    def other() -> None:
        with database.write() as session:
            serialise(session, "another name")
            passed.set()

    with database.write() as session:
        serialise(session, "one name")
        thread = threading.Thread(target=other)
        thread.start()
        assert passed.wait(timeout=60)
    thread.join()


def test_nan_never_reaches_a_json_column(database: Database, now: datetime) -> None:
    row = StationRow(id="s", description={"x": float("nan")}, first_seen_at=now, last_seen_at=now)
    refusals = (sa.exc.StatementError, ValueError)  # SQLAlchemy wraps what psycopg does not
    with pytest.raises(refusals, match="not JSON compliant"), database.write() as session:
        session.add(row)


def test_an_upgrade_of_a_current_database_changes_and_logs_nothing(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    revision = database.revision()
    with caplog.at_level(logging.INFO, logger="storage.db"):
        database.upgrade()
    assert database.revision() == revision
    assert caplog.messages == []
    database.require_current()


def test_a_database_made_by_a_later_release_is_left_alone(empty_database: Database) -> None:
    database = empty_database
    database.upgrade()
    with database.write() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseNewer, match="at revision 9999, which this release does not know"):
        database.upgrade()
    with pytest.raises(DatabaseNewer):
        database.require_current()
    assert database.revision() == "9999"


def test_a_database_without_tables_is_told_from_one_that_is_current(tmp_path: Path) -> None:
    database = Database(default_url(tmp_path))
    with pytest.raises(DatabaseOutdated, match="at revision none, this release needs 0017"):
        database.require_current()
    database.dispose()


def test_an_upgrade_says_what_it_did(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(default_url(tmp_path))
    with caplog.at_level(logging.INFO, logger="storage.db"):
        database.upgrade()
    assert caplog.messages == [f"database migrated backend=sqlite revision={database.revision()}"]
    database.dispose()


def test_two_upgrades_at_once_wait_for_each_other(tmp_path: Path) -> None:
    databases = [Database(default_url(tmp_path)) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Database.upgrade, databases))
    for database in databases:
        database.require_current()
        database.dispose()


def test_two_upgrades_of_postgres_at_once_wait_for_each_other(empty_postgres_url: str) -> None:
    databases = [Database(empty_postgres_url) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Database.upgrade, databases))
    for database in databases:
        database.require_current()
        database.dispose()


def test_the_default_database_is_a_file_in_the_data_directory(tmp_path: Path) -> None:
    database = Database(default_url(tmp_path / "new" / "folder"))
    database.upgrade()
    assert (tmp_path / "new" / "folder" / "gymnastd.sqlite3").is_file()
    database.dispose()


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("foreign_keys", 1),
        ("busy_timeout", BUSY_TIMEOUT_MS),
        ("synchronous", 2),  # FULL: a commit that was acknowledged survives a power cut
    ],
)
def test_every_sqlite_connection_is_set_up_for_safety(
    sqlite_database: Database, pragma: str, value: object
) -> None:
    for session_of in (sqlite_database.read, sqlite_database.write):
        with session_of() as session:
            assert session.execute(sa.text(f"PRAGMA {pragma}")).scalar_one() == value


def test_connections_of_sqlite_are_kept_and_their_caches_stay_small(sqlite_database: Database) -> None:
    """Opening one for every transaction costs the most; a cache of each is memory of the daemon."""
    opened: list[object] = []
    sa.event.listen(sqlite_database.engine, "connect", lambda driver, _: opened.append(driver))
    for _ in range(3):
        with ExitStack() as at_once:
            for _ in range(KEPT_CONNECTIONS):
                at_once.enter_context(sqlite_database.read()).connection()
    assert len(opened) <= KEPT_CONNECTIONS
    with sqlite_database.read() as session:
        assert session.scalar(sa.text("PRAGMA cache_size")) == -CACHE_KIB


def test_foreign_keys_are_on_again_after_a_migration(sqlite_database: Database) -> None:
    sqlite_database.upgrade()
    with sqlite_database.write() as session:
        assert session.execute(sa.text("PRAGMA foreign_keys")).scalar_one() == 1


def test_a_writer_waits_for_the_writer_before_it(sqlite_database: Database, now: datetime) -> None:
    """BEGIN IMMEDIATE: the second fails neither at its first statement nor at its commit; it waits."""
    holding, done = threading.Event(), threading.Event()

    def second() -> None:
        holding.wait(timeout=60)
        with sqlite_database.write() as session:
            tasks.ensure(session, "second", instruction="", now=now)
        done.set()

    thread = threading.Thread(target=second)
    thread.start()
    with sqlite_database.write() as session:
        tasks.ensure(session, "first", instruction="", now=now)
        holding.set()
        assert not done.wait(timeout=0.2)
    assert done.wait(timeout=60)
    thread.join()
    assert task_ids(sqlite_database) == ["first", "second"]


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "postgresql+psycopg2://h/d"]
)
def test_a_database_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(DatabaseUrlInvalid, match="GYMNASTD_DATABASE_URL"):
        Database(url)


def test_a_refused_url_does_not_tell_its_password() -> None:
    with pytest.raises(DatabaseUrlInvalid) as caught:
        Database("mysql://someone:secret@host/db")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgres_means_psycopg_3(scheme: str) -> None:
    database = Database(f"{scheme}://someone@localhost/gymnastd")
    assert database.url.drivername == "postgresql+psycopg"
    assert not database.is_sqlite
    database.dispose()
