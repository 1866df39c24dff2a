"""Seconds between two columns of time, computed by the database: SQLite keeps times as text."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction


class seconds_between(GenericFunction[float]):  # noqa: N801 - it is called like a function of the database
    """`seconds_between(begun, ended)`: negative where the end lies before; null where either is null."""

    type = sa.Double()
    inherit_cache = True


@compiles(seconds_between, "postgresql")
def _in_postgres(element: seconds_between, compiler: SQLCompiler, **options: Any) -> str:
    begun, ended = (compiler.process(clause, **options) for clause in element.clauses)
    return f"EXTRACT(EPOCH FROM ({ended} - {begun}))::double precision"


@compiles(seconds_between, "sqlite")
def _in_sqlite(element: seconds_between, compiler: SQLCompiler, **options: Any) -> str:
    """Days as floating point numbers are exact to about 40 microseconds in this century."""
    begun, ended = (compiler.process(clause, **options) for clause in element.clauses)
    return f"((julianday({ended}) - julianday({begun})) * 86400.0)"
