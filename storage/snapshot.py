"""All rows of a database as lines of JSON, and back: the same for SQLite and PostgreSQL, and between them.

Dumped inside one `Database.read` session, the lines are one consistent moment, whatever is written meanwhile.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.columns import UtcDateTime
from storage.reflection import reflected

ROWS_AT_ONCE = 500


def tables(session: Session) -> list[sa.Table]:
    """Every table, those that are named by others first."""
    return reflected(session.connection()).sorted_tables


def rows_in(session: Session) -> dict[str, int]:
    """How many rows each table has, those without any left out."""
    counts = {t.name: session.scalar(sa.select(sa.func.count()).select_from(t)) or 0 for t in tables(session)}
    return {name: count for name, count in counts.items() if count}


def lines(session: Session, table: sa.Table) -> Iterator[bytes]:
    """Each row of a table as one line, in the order of its key."""
    query = sa.select(table).order_by(*table.primary_key.columns).execution_options(yield_per=ROWS_AT_ONCE)
    for row in session.execute(query).mappings():
        yield json.dumps(dict(row), default=datetime.isoformat).encode() + b"\n"


def load(session: Session, lines_of: Callable[[str], Iterable[bytes]]) -> int:
    """Fill empty tables of the same revision; gives the number of rows.

    Args:
        lines_of: the lines of a table by its name, as `lines` made them; none for a table that had no row.
    """
    return sum(_fill(session, table, lines_of(table.name)) for table in tables(session))


def _fill(session: Session, table: sa.Table, content: Iterable[bytes]) -> int:
    upwards = [c.name for c in table.columns if any(key.column.table is table for key in c.foreign_keys)]
    keys = [column.name for column in table.primary_key.columns]
    count, later, reading = 0, [], iter(content)
    while batch := [_row(table, line) for line in islice(reading, ROWS_AT_ONCE)]:
        for row in batch:  # a row may name one of its own table that comes after it
            if any(row[name] is not None for name in upwards):
                later.append({f"its_{name}": row[name] for name in (*keys, *upwards)})
                row.update(dict.fromkeys(upwards))
        session.execute(sa.insert(table), batch)
        count += len(batch)
    if later:
        itself = [table.c[name] == sa.bindparam(f"its_{name}") for name in keys]
        named: dict[str, Any] = {name: sa.bindparam(f"its_{name}") for name in upwards}
        session.connection().execute(sa.update(table).where(*itself).values(named), later)
    _count_on(session, table)
    return count


def _row(table: sa.Table, line: bytes) -> dict[str, Any]:
    found = json.loads(line)
    for column in table.columns:
        if isinstance(column.type, UtcDateTime) and found[column.name] is not None:
            found[column.name] = datetime.fromisoformat(found[column.name])
    return dict(found)


def _count_on(session: Session, table: sa.Table) -> None:
    """Let PostgreSQL's sequence go on after the highest number; SQLite looks for itself."""
    if session.connection().dialect.name != "postgresql":
        return
    for column in table.primary_key.columns:
        sequence = session.scalar(sa.select(sa.func.pg_get_serial_sequence(table.name, column.name)))
        highest = session.scalar(sa.select(sa.func.max(column))) if sequence else None
        if highest is not None:
            session.execute(sa.select(sa.func.setval(sequence, highest)))
