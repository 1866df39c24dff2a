"""PostgreSQL's engine: everything that its server or the network can keep us waiting for has an end.

What the server is slow at ends there: a lock, a statement. A peer that is gone is noticed by TCP, on both
sides: a lost host's transaction must not keep its locks. A peer that takes our bytes and says nothing (a
stopped server, a proxy) is only noticed by whoever waits, so each wait here has an end too. All of it comes
out as OperationalError, as every loss of a connection does. A database's URL may set libpq's limits and the
session's (`options=-c lock_timeout=...`) otherwise.
"""

import json
import time
from collections.abc import Generator
from functools import partial
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

LOCK_WAIT_S: Final = 15.0  # for another transaction's lock; SQLite's writers wait as long
STATEMENT_S: Final = 60.0  # far beyond any statement that is not a migration's
SILENCE_S: Final = 75.0  # of the server while it is asked something; a statement's own end comes before
MIGRATION_S: Final = 3600.0  # for the one who migrates, and for each statement of a migration
SERVER_NOTICES: Final = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}
WE_NOTICE: Final = {
    "connect_timeout": 10,  # seconds, per address
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds until sent bytes must be acknowledged
}


def postgres_engine(url: sa.URL, *, silence_s: float = SILENCE_S) -> sa.Engine:
    """An engine whose connections wait for nothing without an end.

    Args:
        silence_s: of the server, after which a connection is given up; nobody waits longer for a free one.
    """
    limits = {"lock_timeout": _ms(LOCK_WAIT_S), "statement_timeout": _ms(STATEMENT_S), **SERVER_NOTICES}
    ours = " ".join(f"-c {name}={value}" for name, value in limits.items())
    engine = sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_timeout=min(LOCK_WAIT_S, silence_s),
        json_serializer=partial(json.dumps, allow_nan=False),
        connect_args={
            **{name: value for name, value in WE_NOTICE.items() if name not in url.query},
            "options": f"{ours} {url.query.get('options', '')}".strip(),  # of two the later one holds
        },
    )

    def bound(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        give_up_after(connection, silence_s)

    sa.event.listen(engine, "connect", bound, insert=True)  # before anything is asked
    return engine


def take_time(connection: sa.Connection) -> None:
    """Let this connection wait as long as a migration may, and nobody else use it; nothing on SQLite."""
    if connection.dialect.name == "postgresql":
        driver = connection.connection.driver_connection
        connection.detach()
        for name in ("lock_timeout", "statement_timeout"):
            connection.exec_driver_sql(f"SET LOCAL {name} = {_ms(MIGRATION_S)}")
        give_up_after(cast(DBAPIConnection, driver), 1.25 * MIGRATION_S)


def give_up_after(connection: DBAPIConnection, silence_s: float) -> None:
    """Close a connection whose server says nothing for so long while it is asked something.

    psycopg sends everything through its connection's `wait`, and looks up from it ten times a second.
    """
    driver = cast(Any, connection)

    def wait(steps: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        bounded = _bounded(steps, driver, silence_s=silence_s)
        return type(driver).wait(driver, bounded, *arguments, **options)

    driver.wait = wait


def _bounded(steps: Generator[Any, Any, Any], driver: Any, *, silence_s: float) -> Generator[Any, Any, Any]:
    """The same steps; each is sent what the socket is ready for, nothing where it was silent."""
    heard = time.monotonic()
    try:
        asked = next(steps)
        while True:
            ready = yield asked
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > silence_s:
                driver.pgconn.finish()
                raise driver.OperationalError(
                    f"the database has said nothing for {silence_s:.0f} s, and its connection is given up. "
                    "See whether its server runs and is reached."
                )
            asked = steps.send(ready)
    except StopIteration as done:
        return done.value


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
