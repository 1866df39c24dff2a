"""Every module that maps a table, so that whoever needs all of them finds them in one metadata."""

from typing import Final

from sqlalchemy import MetaData

from storage import (
    access_token_tables,
    event_tables,
    health_tables,
    manifest_tables,
    note_tables,
    schedule_tables,
    success_tables,
    tables,
    world_tables,
)
from storage.columns import Row

MODULES: Final = (
    tables,
    access_token_tables,
    event_tables,
    health_tables,
    manifest_tables,
    note_tables,
    schedule_tables,
    success_tables,
    world_tables,
)
METADATA: Final[MetaData] = Row.metadata
