"""What PostgreSQL's server or the network can keep us waiting for ends, and what comes after works."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from storage.db import MIGRATION_LOCK, Database, serialise
from storage.postgres import SILENCE_S, STATEMENT_S
from tests.faults.processes import Cable, cable

SILENCE = 1.0


@pytest.fixture
def line(postgres_url: str) -> Iterator[Cable]:
    """A cable to the server, which listens on a socket of its own folder only."""
    with cable(f"{sa.make_url(postgres_url).query['host']}/.s.PGSQL.5432") as made:
        yield made


@pytest.fixture
def opened(postgres_url: str) -> Iterator[Opened]:
    made: list[Database] = []
    yield Opened(postgres_url, made)
    for database in made:
        database.dispose()


class Opened:
    """Opens databases, through a cable or as they are, with these limits in their URL."""

    def __init__(self, url: str, made: list[Database]) -> None:
        self.url, self.made = sa.make_url(url), made

    def __call__(self, line: Cable | None = None, *, silence_s: float = SILENCE_S, **limits: str) -> Database:
        url = self.url.update_query_dict(limits)
        if line is not None:
            host, _, port = line.url.removeprefix("http://").partition(":")
            url = url.difference_update_query(["host"]).set(host=host, port=int(port))
        self.made.append(Database(url.render_as_string(hide_password=False), silence_s=silence_s))
        return self.made[-1]


def shown(database: Database, name: str) -> str:
    with database.read() as session:
        return str(session.scalar(sa.text(f"SHOW {name}")))


def one(database: Database) -> int:
    with database.read() as session:
        return int(session.scalar(sa.text("SELECT 1")) or 0)


def test_the_server_ends_what_it_is_slow_at(opened: Opened) -> None:
    database = opened()
    assert shown(database, "lock_timeout") == "15s"
    assert shown(database, "statement_timeout") == "1min"
    assert STATEMENT_S < SILENCE_S, "the server's own word, which says what was slow, comes first"


def test_the_urls_own_limits_hold(opened: Opened) -> None:
    database = opened(options="-c lock_timeout=7s", connect_timeout="3")
    assert shown(database, "lock_timeout") == "7s"
    assert shown(database, "statement_timeout") == "1min"
    with database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        assert driver.info.get_parameters()["connect_timeout"] == "3"


def test_both_sides_of_a_connection_notice_that_the_other_is_gone(opened: Opened, line: Cable) -> None:
    with opened(line).engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        ours = socket.socket(fileno=driver.pgconn.socket)
        try:
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            found = [
                ours.getsockopt(socket.IPPROTO_TCP, name)
                for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            ]
            assert found == [10, 5, 3]
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 25_000
        finally:
            ours.detach()
        given = driver.info.get_parameters()["options"]
        assert "tcp_keepalives_idle=10" in given  # the server has no TCP here to look at


def test_a_statement_that_takes_too_long_is_ended(opened: Opened) -> None:
    database = opened(options="-c statement_timeout=200")
    with pytest.raises(OperationalError, match="statement timeout"), database.read() as session:
        session.execute(sa.text("SELECT pg_sleep(20)"))
    assert one(database) == 1


def test_a_writer_waits_for_a_lock_no_longer_than_the_limit(opened: Opened) -> None:
    database = opened(options="-c lock_timeout=200")
    with database.write() as holder:
        serialise(holder, "door")
        with pytest.raises(OperationalError, match="lock timeout"), database.write() as second:
            serialise(second, "door")
    with database.write() as third:
        serialise(third, "door")


def test_a_migration_waits_for_another_longer_than_any_writer(opened: Opened) -> None:
    database = opened(options="-c lock_timeout=200 -c statement_timeout=400")
    migrating = threading.Thread(target=database.upgrade)
    with database.write() as holder:
        serialise(holder, MIGRATION_LOCK)
        migrating.start()
        migrating.join(1.0)
        assert migrating.is_alive()
    migrating.join(60.0)
    assert not migrating.is_alive()
    assert shown(database, "lock_timeout") == "200ms"
    database.require_current()


def test_a_line_that_is_cut_under_a_statement_ends_it_and_a_mended_one_is_used_again(
    opened: Opened, line: Cable
) -> None:
    database = opened(line, silence_s=SILENCE)
    with pytest.raises(OperationalError, match="said nothing for 1 s"), database.write() as session:
        session.execute(sa.text("SELECT 1"))
        with line.cut():
            begun = time.monotonic()
            try:
                session.execute(sa.text("SELECT 2"))
            finally:
                assert SILENCE <= time.monotonic() - begun < 20.0
    assert one(database) == 1


def test_a_connection_that_lay_in_the_pool_when_the_line_was_cut_ends_too(
    opened: Opened, line: Cable
) -> None:
    database = opened(line, silence_s=SILENCE, connect_timeout="2")
    assert one(database) == 1
    with line.cut(), pytest.raises(OperationalError, match=r"said nothing|timeout expired"):
        one(database)
    assert one(database) == 1


def test_a_server_that_is_silent_from_the_start_ends_the_connecting(opened: Opened, line: Cable) -> None:
    database = opened(line, connect_timeout="2")
    with line.cut(), pytest.raises(OperationalError, match="timeout expired"):
        one(database)
    assert one(database) == 1


def test_who_finds_no_free_connection_is_told_so_as_of_any_other_loss(opened: Opened) -> None:
    database = opened(silence_s=0.2)
    taken = [database.engine.connect() for _ in range(15)]
    with pytest.raises(OperationalError, match="connection timed out"):
        one(database)
    with pytest.raises(OperationalError, match="connection timed out"), database.write() as session:
        session.execute(sa.text("SELECT 1"))
    for connection in taken:
        connection.close()
    assert one(database) == 1


def test_a_server_that_answers_slowly_is_waited_for(opened: Opened, line: Cable) -> None:
    database = opened(line, silence_s=SILENCE)
    with database.read() as session:
        for _ in range(3):  # longer together than the silence that would end one
            assert session.scalar(sa.text("SELECT 1 FROM pg_sleep(0.5)")) == 1
