"""The tables as the database itself describes them, whatever release made them, with our own column types."""

from typing import Any

import sqlalchemy as sa

from storage.columns import JsonColumn, UtcDateTime

NOT_OURS = {"alembic_version"}  # kept by the migrations


def reflected(connection: sa.Connection) -> sa.MetaData:
    """Every table with its columns and references; `sorted_tables` puts those that are named first."""
    metadata = sa.MetaData()
    sa.event.listen(metadata, "column_reflect", _take_our_type)
    metadata.reflect(connection, only=lambda name, _: name not in NOT_OURS)
    return metadata


def _take_our_type(inspector: sa.Inspector, table: sa.Table, column: dict[str, Any]) -> None:
    if isinstance(column["type"], sa.DateTime):
        column["type"] = UtcDateTime()
    elif isinstance(column["type"], sa.JSON):
        column["type"] = JsonColumn
