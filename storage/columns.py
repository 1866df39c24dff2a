"""What all tables share: their base class, names of constraints, and types that both databases keep alike.

Ids are UUIDs written as text, times are aware and in UTC, JSON columns hold what JSON can hold.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from storage.errors import NaiveDatetime

ID_LENGTH = 36  # a UUID as text
EPISODE_ID_LENGTH = 100  # what the manifest allows
NAME_LENGTH = 200  # station, task, holder and worker names
SHA256_LENGTH = 64  # hexadecimal digits
MAIN = "main"  # the lineage of whoever names none

JsonColumn = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # only INTEGER counts up by itself in SQLite


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in, the same instant in UTC out, on both databases."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise NaiveDatetime(value=value)
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Row(DeclarativeBase):
    """Base of all mapped classes; every constraint gets a name, so that migrations can drop it."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute
        datetime: UtcDateTime,
        dict[str, Any]: JsonColumn,
    }


def new_id() -> str:
    """A fresh id for a row that did not bring its own."""
    return str(uuid4())


def id_column(target: str, *, nullable: bool = False, index: bool = True) -> Mapped[Any]:
    """A column that names a row of another table by its id."""
    return mapped_column(sa.String(ID_LENGTH), sa.ForeignKey(target), nullable=nullable, index=index)
