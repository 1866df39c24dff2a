"""What the daemon does for what-ifs by itself: ends those that nobody will end, forgets old ones."""

from datetime import datetime

from storage import what_ifs
from storage.db import Database

LOOK_EVERY_S = 5.0


def tend_what_ifs(now: datetime, *, database: Database) -> str | None:
    """Bring every what-if of a silent worker on, and keep the newest."""
    with database.read() as session:  # mostly there is nothing to do, and then nobody is held up
        if not what_ifs.count_open(session) and what_ifs.count_all(session) <= what_ifs.KEPT:
            return None
    with database.write() as session:
        moved, forgotten = what_ifs.reap(session, now=now), what_ifs.forget_old(session)
    return f"what-ifs tended moved={len(moved)} forgotten={forgotten}" if moved or forgotten else None
