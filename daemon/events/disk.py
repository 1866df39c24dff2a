"""Tells when the disk of the data directory runs low, and when there is room again."""

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import OperationalError

from daemon.disk import free_bytes
from storage import events
from storage.db import Database

log = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
ROOM = 1.2  # times the low mark: there is room again, so that a disk at the mark is not told of all night
GB = 1e9

KINDS = ("disk_low", "disk_ok")


def watch_disk(
    database: Database,
    folder: Path,
    *,
    low_gb: float,
    now: Callable[[], datetime],
    measure: Callable[[Path], int] = free_bytes,
) -> None:
    """Note `disk_low` when less is free than `low_gb`, `disk_ok` when it is over; each once.

    A database that cannot be written to, maybe because the disk is full, is tried again at the next call.
    """
    found = measure(folder) / GB
    try:
        with database.read() as session:
            last = events.newest_of(session, KINDS)
        was_low = last is not None and last.kind == "disk_low"
        is_low = found < low_gb * (ROOM if was_low else 1.0)
        if is_low == was_low:
            return
        facts = {"folder": str(folder), "free_gb": found, "low_gb": low_gb}
        with database.write() as session:
            events.note(session, "disk_low" if is_low else "disk_ok", at=now(), facts=facts)
    except OperationalError as failed:
        log.warning("disk not told of free_gb=%.2f reason=%s", found, failed.orig)
