"""Upkeep: once a day the daemon backs itself up and lets go of what nobody needs, if its settings say so.

Both are the commands that people run, in a process of their own: this one stays small, and a backup that
fails takes nothing with it. How the last ones went stands among the events; from these it is known what is
due, also after a restart. One that was missed is made up for.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, Any

from sqlalchemy.orm import Session

from daemon.settings import Settings
from daemon.supervisor import end, signal_group, worker_environment
from storage import events
from storage.db import Database
from storage.event_tables import EventRow

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "daemon.cli")
LOOK_EVERY_S = 10.0
MOST_S = 12 * 3600.0  # a backup or gc that takes longer hangs
AGAIN_AFTER_S = 600.0  # where somebody else had the turn
GRACE_S = 5.0
BACKUP, GC = "backup", "gc"
KINDS = {BACKUP: ("backup_made", "backup_failed"), GC: ("gc_done", "gc_failed")}
TURN_TAKEN = "[lease_held]"  # how the sentence ends where another backup or gc runs
LONGEST_REASON = 500  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A backup or gc that is on its way; `told` and `complaint` get what it prints."""

    work: str
    child: subprocess.Popen[bytes]
    begun_at: datetime
    told: IO[bytes]
    complaint: IO[bytes]


class Upkeep:
    """Starts what is due, and notes how it went. Nothing here waits: `look` is called again and again."""

    def __init__(self, settings: Settings, database: Database, *, command: Sequence[str] = COMMAND) -> None:
        self._settings, self._database, self._command = settings, database, tuple(command)
        self._running: Running | None = None
        self._not_before: datetime | None = None

    def look(self, now: datetime) -> str | None:
        """Note the end of what runs, else start what is due; gives a phrase for the log."""
        if self._running is not None:
            return self._watch(self._running, now)
        if self._not_before is not None and now < self._not_before:
            return None
        with self._database.read() as session:
            work = due(session, self._settings, now=now)
        if work is None:
            return None
        self._running = self._start(work, now)
        return f"upkeep started work={work}"

    def stop(self) -> None:
        """End what runs. Nothing is noted: at the next start it is due again, and goes on from there."""
        if self._running is not None:
            signal_group(self._running.child, signal.SIGINT)  # so that it gives its turn back
            end(self._running.child, GRACE_S)
            self._forget(self._running)

    def _start(self, work: str, now: datetime) -> Running:
        told, complaint = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - until its end
        child = subprocess.Popen(
            [*self._command, *words_of(work, self._settings)],
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=complaint,
            start_new_session=True,
            env=worker_environment(self._settings, os.environ),
        )
        return Running(work=work, child=child, begun_at=now, told=told, complaint=complaint)

    def _watch(self, run: Running, now: datetime) -> str | None:
        overdue = now - run.begun_at > timedelta(seconds=MOST_S)
        if run.child.poll() is None and not overdue:
            return None
        if overdue:
            end(run.child, 0.0)
            reason: str | None = f"it took longer than {MOST_S / 3600:g} h and was ended"
        else:
            reason = None if run.child.returncode == 0 else complaint_of(run)
        facts = {} if reason else document_of(run)
        self._forget(run)
        if reason is not None and reason.endswith(TURN_TAKEN):
            self._not_before = now + timedelta(seconds=AGAIN_AFTER_S)
            return f"upkeep waits work={run.work} reason={reason}"
        good, bad = KINDS[run.work]
        took_s = (now - run.begun_at).total_seconds()
        with self._database.write() as session:
            kind = good if reason is None else bad
            told = facts if reason is None else {"reason": reason}
            events.note(session, kind, at=now, facts={**told, "took_s": round(took_s, 1)})
        if reason is not None:
            log.error("upkeep failed work=%s reason=%s", run.work, reason)
            return None
        return f"upkeep done work={run.work} took_s={took_s:.1f}"

    def _forget(self, run: Running) -> None:
        run.told.close()
        run.complaint.close()
        self._running = None


def due(session: Session, settings: Settings, *, now: datetime) -> str | None:
    """Backup or gc, whichever is to be done now: a backup first, and no gc where it failed."""
    since = slot_before(settings.upkeep_at, now=now)
    if settings.backup_dir is not None:
        last = last_of(session, BACKUP)
        if last is None or last.at < since:
            return BACKUP
        if last.kind == "backup_failed":
            return None
    if settings.iterations_kept is None and settings.episode_days_kept is None:
        return None
    last = last_of(session, GC)
    return GC if last is None or last.at < since else None


def last_of(session: Session, work: str) -> EventRow | None:
    """How the last backup or gc that the daemon did went."""
    return events.newest_of(session, KINDS[work])


def slot_before(clock: str, *, now: datetime) -> datetime:
    """When it last was this hour and minute, UTC."""
    hour, minute = (int(part) for part in clock.split(":"))
    today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return today if today <= now else today - timedelta(days=1)


def words_of(work: str, settings: Settings) -> list[str]:
    """The command, without the program; gc reads from the settings what to keep."""
    if work == GC:
        return ["gc", "--json"]
    return ["backup", str(settings.backup_dir), "--keep", str(settings.backups_kept), "--json"]


def document_of(run: Running) -> dict[str, Any]:
    """What it said it did; lists of names are counts here."""
    run.told.seek(0)
    said = json.loads(run.told.read())
    return {name: len(value) if isinstance(value, list) else value for name, value in said.items()}


def complaint_of(run: Running) -> str:
    """The last thing that it said of why it failed."""
    run.complaint.seek(0)
    lines = run.complaint.read().decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "it gave no reason")
    return said[-LONGEST_REASON:]
