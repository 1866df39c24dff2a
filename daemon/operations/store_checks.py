"""Checks of what is kept: tables, blobs, checkpoints, leases, and runs that stand still."""

from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.errors import ClockSkewed
from daemon.operations.findings import Finding, fault, ok, warning
from daemon.settings import Settings
from daemon.stores import clock_ahead_s, clock_limit_s
from storage import checkpoints, retention
from storage.blobs import BlobStore
from storage.db import Database
from storage.errors import CheckpointCorrupt, StorageError
from storage.tables import CheckpointRow, EpisodeBlobRow, EpisodeRow, IterationRow, LeaseRow, PhaseRunRow

LATE_S = 60.0  # a daemon that runs takes up what has run out within a second
QUEUED_S = 600.0  # a run that nobody took for so long
MOST_NAMED = 5  # of many faults of one kind
RESTORE = "restore the files from a backup"


def check_database(database: Database) -> list[Finding]:
    """Whether it answers, has this release's tables, and is whole."""
    try:
        database.require_current()
        found = _damage(database)
    except StorageError as error:
        return [fault("database", str(error), "`gymnastd db upgrade`, or install the later release")]
    except sa.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip()
        return [
            fault("database", f"it does not answer: {reason}", "start it, or correct GYMNASTD_DATABASE_URL")
        ]
    at = f"{database.url.get_backend_name()}, revision {database.revision()}"
    if found:
        remedy = "stop the daemon, keep the database aside, restore the newest backup"
        return [fault("integrity", found, remedy)]
    return [ok("database", at), ok("integrity", "the tables are whole and every reference is met")]


def check_its_clock(database: Database, settings: Settings, *, now: Callable[[], datetime]) -> Finding:
    """Whether the database keeps the same time as this machine: workers of all machines go by its leases."""
    ahead_s, limit_s = clock_ahead_s(database, now=now), clock_limit_s(settings)
    if abs(ahead_s) > limit_s:
        remedy = "let NTP set the clocks of both machines (timedatectl); nothing works here until then"
        return fault("database_clock", str(ClockSkewed(ahead_s=ahead_s, limit_s=limit_s)), remedy)
    return ok("database_clock", f"it is less than {limit_s:g} s from this machine's")


def _damage(database: Database) -> str:
    """What the database says of its own pages and references; empty where all is well."""
    with database.read() as session:
        if not database.is_sqlite:
            query = "SELECT conname FROM pg_constraint WHERE NOT convalidated ORDER BY conname"
            return ", ".join(session.execute(sa.text(query)).scalars())
        pages = [str(row[0]) for row in session.execute(sa.text("PRAGMA quick_check"))]
        lost = session.execute(sa.text("PRAGMA foreign_key_check")).all()
    said = [page for page in pages if page != "ok"]
    said += [f"table {row[0]}, row {row[1]} names a missing row of {row[2]}" for row in lost]
    return "; ".join(said[:MOST_NAMED])


def newest_time(session: Session) -> datetime | None:
    """The newest time that a process of the daemon wrote."""
    columns = (
        IterationRow.requested_at,
        PhaseRunRow.heartbeat_at,
        PhaseRunRow.finished_at,
        EpisodeRow.committed_at,
    )
    times = [session.scalar(sa.select(sa.func.max(column))) for column in columns]
    return max((time for time in times if time is not None), default=None)


def check_checkpoints(session: Session, blobs: BlobStore, *, deep: bool) -> list[Finding]:
    """Whether every checkpoint's file is there, as long as it was, and, looked at deeply, the same."""
    rows = list(session.scalars(sa.select(CheckpointRow).where(CheckpointRow.retired_at.is_(None))))
    said = [
        f"{row.kind} {row.number} ({row.id}) {bad}" for row in rows if (bad := _bad(row, blobs, deep=deep))
    ]
    if said:
        remedy = f"{RESTORE}; without one, go on from a parent"
        return [fault("checkpoints", sentence, remedy) for sentence in said]
    how = "with the digests of their rows" if deep else "in their full size"
    return [ok("checkpoints", f"{len(rows)} files are there {how}")]


def _bad(row: CheckpointRow, blobs: BlobStore, *, deep: bool) -> str | None:
    try:
        size = blobs.path(row.sha256).stat().st_size
        if size == row.size_bytes and deep:
            checkpoints.path(row, blobs)
    except CheckpointCorrupt:
        return f"is not the file that was saved: sha256 {row.sha256} was expected"
    except StorageError:
        return f"has no file: sha256 {row.sha256} was expected"
    return None if size == row.size_bytes else f"has a file of {size} bytes, {row.size_bytes} were expected"


def check_blobs(session: Session, blobs: BlobStore) -> list[Finding]:
    """Episodes without their files, and files that no row names."""
    there = blobs.sizes()
    query = (
        sa.select(EpisodeBlobRow)
        .join(EpisodeRow, EpisodeRow.id == EpisodeBlobRow.episode_id)
        .where(EpisodeRow.retired_at.is_(None))
    )
    bad = [row for row in session.scalars(query) if there.get(row.sha256) != row.size_bytes]
    findings = [
        fault(
            "blobs", f"{row.name} of episode {row.episode_id} is missing or cut short ({row.sha256})", RESTORE
        )
        for row in bad[:MOST_NAMED]
    ]
    if len(bad) > MOST_NAMED:
        findings.append(fault("blobs", f"and {len(bad) - MOST_NAMED} more files of episodes", RESTORE))
    named = retention.named_blobs(session)
    unnamed = [size for sha256, size in there.items() if sha256 not in named]
    if unnamed:
        found = f"{len(unnamed)} of {len(there)} files ({sum(unnamed)} bytes) have no row"
        findings.append(warning("blobs", found, "`gymnastd gc` removes them once they are old enough"))
    return findings or [ok("blobs", f"{len(there)} files, each with a row")]


def check_leases(session: Session, *, now: datetime) -> Finding:
    """Leases that ran out and that nobody took up."""
    held = list(session.scalars(sa.select(LeaseRow).where(LeaseRow.holder.is_not(None))))
    late = [row for row in held if row.expires_at < now - timedelta(seconds=LATE_S)]
    if late:
        names = ", ".join(f"{row.name} of {row.holder}" for row in late[:MOST_NAMED])
        return warning("leases", f"{len(late)} ran out: {names}", "start `gymnastd serve`; it takes them up")
    return ok("leases", f"{len(held)} are held, none ran out")


def check_runs(session: Session, settings: Settings, *, now: datetime) -> list[Finding]:
    """Phase runs that nobody takes, or whose worker has gone silent."""
    findings = []
    query = sa.select(PhaseRunRow).where(PhaseRunRow.state.in_(("queued", "running")))
    silent_s = max(LATE_S, 2 * settings.lease_ttl_s)
    for run in session.scalars(query.order_by(PhaseRunRow.queued_at)):
        since = (run.heartbeat_at or run.queued_at) if run.state == "running" else run.queued_at
        waited_s = (now - since).total_seconds()
        which = f"{run.phase}, attempt {run.attempt} ({run.id})"
        if run.state == "running" and waited_s > silent_s:
            found = f"{which}: worker {run.worker} is silent for {waited_s:.0f} s"
            findings.append(
                warning("phase_runs", found, "start `gymnastd serve`; it is tried again by itself")
            )
        if run.state == "queued" and waited_s > QUEUED_S:
            said = f": {run.progress_text}" if run.progress_text else ""
            found = f"{which} is queued for {waited_s:.0f} s{said}"
            findings.append(warning("phase_runs", found, "see whether a worker runs, and what its log says"))
    return findings or [ok("phase_runs", "none stands still")]
