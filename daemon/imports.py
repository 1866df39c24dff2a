"""Bringing recorded data into the replay store from the command line; no torch here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from daemon.settings import Settings
from daemon.stores import open_blobs, open_database, utc_now
from storage.interchange.worldgym_clips import ImportReport, import_folder


def import_clips(
    settings: Settings, folder: Path, *, advance: Callable[[int, int], None] | None = None
) -> ImportReport:
    """Import WorldGym clips into the store of these settings, making the store when there is none.

    Args:
        advance: is told how many clips are done, and how many there are.

    Raises:
        ClipInvalid: a clip breaks the format, or there is none; clips before it stay imported.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = open_database(settings)
    try:
        database.upgrade()
        return import_folder(database, open_blobs(settings), folder, now=utc_now(), advance=advance)
    finally:
        database.dispose()
