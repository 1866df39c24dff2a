"""`gymnastd gc`: let go of files that nobody needs, also while the daemon runs. Rows stay.

A checkpoint is let go in two runs: the first marks its row, and nobody begins to read its file any more; one
that comes after the time of grace deletes the file. Whatever is killed on the way, what is left is at worst a
file without a row, for the next run. Episodes are never let go unless that is asked for.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.operations.progress import Report
from daemon.operations.turn import Turn
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database
from storage import checkpoints, lineages, retention, trials
from storage.adoption import adoptable
from storage.blobs import BlobStore, is_older
from storage.reflection import reflected
from storage.states import is_final
from storage.sweep import require_its_own
from storage.tables import CheckpointRow, EpisodeBlobRow, IterationRow, PhaseRunRow

CACHE_S = 7 * 86_400.0  # pictures and latents that nobody looked at for so long are made again when needed
ITERATIONS_KEPT = 10
ON_ITS_WAY_S = 3600.0  # a file without a row is left alone for so long: its row may come
UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
UUID_LENGTH = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What stays. `episode_days` None: every episode."""

    iterations: int = ITERATIONS_KEPT
    grace_s: float = 86_400.0
    episode_days: float | None = None


def retention_of(
    settings: Settings, *, iterations: int | None, grace_s: float, episode_days: float | None
) -> Retention:
    """What stays: as it is asked for, else as the settings say, else the defaults."""
    kept = iterations or settings.iterations_kept or ITERATIONS_KEPT
    days = settings.episode_days_kept if episode_days is None else episode_days
    return Retention(iterations=kept, grace_s=grace_s, episode_days=days)


@dataclass(slots=True, kw_only=True)
class Heap:
    """So many things of so many bytes."""

    count: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        self.count += 1
        self.size_bytes += size_bytes

    def __str__(self) -> str:
        return f"{self.count} of {self.size_bytes / 1e6:.1f} MB"


@dataclass(slots=True, kw_only=True)
class Collected:
    """What was, or in a dry run would be, let go and deleted."""

    retired_checkpoints: Heap = field(default_factory=Heap)
    retired_episodes: Heap = field(default_factory=Heap)
    blobs: Heap = field(default_factory=Heap)
    caches: Heap = field(default_factory=Heap)
    work: Heap = field(default_factory=Heap)
    runs: Heap = field(default_factory=Heap)

    def heaps(self) -> dict[str, Heap]:
        """By their names in sentences."""
        return {
            "retired checkpoints": self.retired_checkpoints,
            "retired episodes": self.retired_episodes,
            "blobs": self.blobs,
            "caches": self.caches,
            "work files": self.work,
            "logs and curves": self.runs,
        }


def collect_garbage(
    settings: Settings, keep: Retention, *, dry_run: bool, report: Report, now: Callable[[], datetime]
) -> Collected:
    """Mark rows, delete files; with `dry_run` neither.

    Raises:
        DatabaseOutdated, DatabaseNewer: the database is not this release's.
        LeaseHeld: a backup or another gc runs.
        SweepRefused: the store belongs to another database; rows may be marked, files are all there.
    """
    database, done, at = open_database(settings), Collected(), now()
    try:
        database.require_current()
        with Turn(database, "gc", now=now) as turn:
            report(0.0, "looking for rows to retire")
            with database.write() as session:
                _retire(session, keep, done=done, at=at)
                if dry_run:
                    session.rollback()
            turn.keep()
            report(0.3, "blobs")
            with database.read() as session:
                named = retention.named_blobs(session, retired_before=at - timedelta(seconds=keep.grace_s))
                _, retired = retention.owned_blobs(session)
                scratch, states = _idle(session, settings.data_dir)
                told = _told(session, settings.data_dir, iterations=keep.iterations)
            sweeping = Sweeping(blobs=open_blobs(settings), named=named, retired=retired)
            _sweep(sweeping, keep=keep, done=done, dry_run=dry_run, at=at)
            turn.keep()
            report(0.8, "caches and work files")
            caches = _files(settings.data_dir / "cache")
            _remove(caches, done.caches, older_than_s=CACHE_S, at=at, dry_run=dry_run)
            _remove(scratch + states, done.work, older_than_s=keep.grace_s, at=at, dry_run=dry_run)
            _remove(told, done.runs, older_than_s=keep.grace_s, at=at, dry_run=dry_run)
            for path in () if dry_run else scratch + told:
                with suppress(OSError):  # something is left in it
                    path.parent.rmdir()
    finally:
        database.dispose()
    report(1.0, "done")
    return done


def kept_checkpoints(session: Session, *, iterations: int) -> set[str]:
    """Checkpoints that stay.

    They are: what the newest iterations, and all that are not over, made, read or decided about; of every
    lineage the champion with all its ancestors, the policy that a rollback would bring back, and the newest
    of each kind that may be gone on from; and whatever was brought in from outside.
    """
    recent = _recent(session, iterations)
    made = sa.select(CheckpointRow.id).where(
        sa.or_(CheckpointRow.iteration_id.is_(None), CheckpointRow.iteration_id.in_(recent))
    )
    kept = set(session.scalars(made)) | _mentioned(session, recent)
    return kept.union(*(_gone_on_from(session, lineage) for lineage in lineages.names(session)))


def _gone_on_from(session: Session, lineage: str) -> set[str]:
    """What a lineage goes on from, or would after a rollback."""
    newest = (adoptable(session, kind, lineage=lineage)[:1] for kind in checkpoints.KINDS)
    kept = {row.id for rows in newest for row in rows}
    decision = trials.latest(session, lineage)
    if decision is not None:
        kept |= {row.id for row in checkpoints.ancestry(session, decision.goes_on_id)}
        crowned = trials.crowning(session, decision.goes_on_id, lineage=lineage)
        kept |= {crowned.champion_id, crowned.candidate_id} if crowned else set()
        if decision.decision == trials.UNDECIDED:  # the next iteration may carry its trial on
            kept.add(decision.candidate_id)
    return kept


def _recent(session: Session, iterations: int) -> set[str]:
    newest = sa.select(IterationRow).order_by(IterationRow.number.desc())
    rows = session.scalars(newest).all()
    return {row.id for place, row in enumerate(rows) if place < iterations or not is_final(row)}


def _mentioned(session: Session, iteration_ids: set[str]) -> set[str]:
    """Ids in all that rows say of these iterations: outcomes, decisions, manifests."""
    found: set[str] = set()
    for table in reflected(session.connection()).sorted_tables:
        if "iteration_id" not in table.columns:
            continue
        for column in table.columns:
            of_them = sa.select(column).where(table.c.iteration_id.in_(iteration_ids), column.is_not(None))
            if isinstance(column.type, sa.JSON):
                of_them = of_them.with_only_columns(sa.cast(column, sa.Text))
                found.update(id_ for text in session.scalars(of_them) for id_ in UUID.findall(text))
            elif any(key.column.table.name == "checkpoints" for key in column.foreign_keys):
                found.update(session.scalars(of_them))
    return found


def _retire(session: Session, keep: Retention, *, done: Collected, at: datetime) -> None:
    kept = kept_checkpoints(session, iterations=keep.iterations)
    made_before = at - timedelta(seconds=keep.grace_s)
    for row in retention.retire_checkpoints(session, kept, made_before=made_before, now=at):
        done.retired_checkpoints.add(row.size_bytes)
    if keep.episode_days is None:
        return
    old = retention.old_episodes(session, committed_before=at - timedelta(days=keep.episode_days))
    size = sa.select(sa.func.sum(EpisodeBlobRow.size_bytes))
    for episode in old:
        done.retired_episodes.add(session.scalar(size.where(EpisodeBlobRow.episode_id == episode.id)) or 0)
    retention.retire_episodes(session, old, now=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeping:
    """The blobs, those that rows need, and those whose rows were retired at any time."""

    blobs: BlobStore
    named: set[str]
    retired: set[str]


def _sweep(what: Sweeping, *, keep: Retention, done: Collected, dry_run: bool, at: datetime) -> None:
    """Delete blobs that no row needs; those without any row only once their row cannot be on its way.

    Raises:
        SweepRefused: most of them have no row at all: this is another store's database.
    """
    stale = {path.name: path for path in what.blobs.stale(what.named, older_than_s=keep.grace_s, now=at)}
    if keep.grace_s < ON_ITS_WAY_S:
        oldest = at.timestamp() - ON_ITS_WAY_S
        stale = {name: p for name, p in stale.items() if name in what.retired or is_older(p, oldest)}
    unknown = len(stale.keys() - what.retired)
    require_its_own(what.blobs, unnamed=unknown, seen=len(what.blobs.sizes()))
    for path in stale.values():
        with suppress(FileNotFoundError):  # the daemon's own sweep was faster
            done.blobs.add(path.stat().st_size)
            if not dry_run:
                path.unlink()


def _idle(session: Session, data_dir: Path) -> tuple[list[Path], list[Path]]:
    """Scratch files of runs that are over, and states of trainings whose iteration is over."""
    going = {row.id for row in session.scalars(sa.select(IterationRow)) if not is_final(row)}
    running = set(session.scalars(sa.select(PhaseRunRow.id).where(PhaseRunRow.state == "running")))
    work, resume = data_dir / "work", data_dir / "resume"
    return (
        [path for path in _files(work) if path.relative_to(work).parts[0] not in running],
        [path for path in _files(resume) if path.name[:UUID_LENGTH] not in going],
    )


def _told(session: Session, data_dir: Path, *, iterations: int) -> list[Path]:
    """Logs and curves of phase runs, but for those of the newest iterations and of all that are not over."""
    query = sa.select(PhaseRunRow.id).where(PhaseRunRow.iteration_id.in_(_recent(session, iterations)))
    kept, runs = set(session.scalars(query)), data_dir / "runs"
    return [path for path in _files(runs) if path.relative_to(runs).parts[0] not in kept]


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []


def _remove(paths: Iterable[Path], heap: Heap, *, older_than_s: float, at: datetime, dry_run: bool) -> None:
    oldest = at.timestamp() - older_than_s
    for path in paths:
        with suppress(FileNotFoundError):  # its owner was faster
            found = path.stat()
            if max(found.st_mtime, found.st_atime) < oldest:
                heap.add(found.st_size)
                if not dry_run:
                    path.unlink()
