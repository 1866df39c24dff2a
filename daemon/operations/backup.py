"""`gymnastd backup`: rows of one moment, the files that they name, and what phases keep beside them.

Consistent while everything runs: rows are read in one snapshot, and a file that a row names is there before
the row and never changes. Nothing here knows which database it is.
"""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic.migration import MigrationContext

from daemon.data_directory import LOCK_NAME, RESTORING_NAME
from daemon.operations.manifest import OBJECTS, Manifest, Part, backups
from daemon.operations.progress import Report
from daemon.operations.turn import Turn
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database
from storage import retention, snapshot
from storage.blobs import BlobStore
from storage.db import SQLITE_NAME, Database
from storage.errors import BlobError, DiskFull

NOT_COPIED = {
    "blobs",
    "cache",
    "work",
    LOCK_NAME,
    RESTORING_NAME,
}  # copied by digest, made again, or of a process
DUMPED = 0.1  # share of the work when the tables are written


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What a backup holds, and how much of it was new."""

    name: str
    rows: int
    files: int
    total_bytes: int
    copied_bytes: int
    damaged: tuple[str, ...]


def back_up(
    settings: Settings, folder: Path, *, keep: int, verify: bool, report: Report, now: Callable[[], datetime]
) -> Copied:
    """Make a backup, then remove all but the newest `keep` of the folder.

    Args:
        verify: read every file of earlier backups again that this one needs, and replace damaged ones.

    Raises:
        DatabaseOutdated, DatabaseNewer: the database is not this release's.
        LeaseHeld: another backup or gc runs.
        DiskFull: the folder's disk has no room; earlier backups are as they were.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = open_database(settings)
    try:
        database.require_current()
        with Turn(database, "backup", now=now) as turn:
            copying = _Copying(settings, folder, verify=verify, report=report, turn=turn)
            manifest = copying.run(database, at=now())
            _prune(folder, keep=keep, now=now())
    finally:
        database.dispose()
    return Copied(
        name=manifest.name,
        rows=manifest.rows,
        files=len(manifest.blobs) + len(manifest.files),
        total_bytes=manifest.total_bytes,
        copied_bytes=copying.copied_bytes,
        damaged=manifest.damaged,
    )


class _Copying:
    """One backup on its way."""

    def __init__(self, settings: Settings, folder: Path, *, verify: bool, report: Report, turn: Turn) -> None:
        self._data_dir, self._folder = settings.data_dir, folder
        self._source, self._objects = open_blobs(settings), BlobStore(folder / OBJECTS)
        self._there = self._objects.sizes()
        self._verify, self._report, self._turn = verify, report, turn
        self._tables_file = SQLITE_NAME
        self.copied_bytes = 0

    def run(self, database: Database, *, at: datetime) -> Manifest:
        if database.is_sqlite:
            self._tables_file = Path(str(database.url.database)).name
        with database.read() as session:
            revision = MigrationContext.configure(session.connection()).get_current_revision()
            counts = snapshot.rows_in(session)
            tables: list[Part] = []
            for table in snapshot.tables(session):
                if table.name in counts:
                    self._report(DUMPED * len(tables) / len(counts), f"table {table.name}")
                    tables.append(self._keep(table.name, snapshot.lines(session, table)))
            must, _ = retention.owned_blobs(session)
            may = retention.named_blobs(session) - must
        blobs, damaged = self._copy_blobs(must, may)
        manifest = Manifest(
            name=at.strftime("%Y%m%dT%H%M%S%fZ"),
            created_at=at.isoformat(),
            release=version("gymnast-daemon"),
            revision=str(revision),
            rows=sum(counts.values()),
            tables=tuple(tables),
            blobs=tuple(blobs),
            files=tuple(self._copy_files()),
            damaged=tuple(damaged),
        )
        manifest.write(self._folder)
        self._report(1.0, "complete")
        return manifest

    def _keep(self, name: str, content: Iterable[bytes]) -> Part:
        """Write pieces into one object."""
        with TemporaryDirectory(prefix=".new-", dir=self._folder) as scratch:
            file = Path(scratch) / "content"
            with file.open("wb") as target:
                for piece in content:
                    target.write(piece)
                    self._turn.keep()
            size = file.stat().st_size
            sha256 = self._objects.put_file(file)
        if sha256 not in self._there:
            self.copied_bytes += size
        return Part(name=name, sha256=sha256, size_bytes=size)

    def _copy_blobs(self, must: set[str], may: set[str]) -> tuple[list[Part], list[str]]:
        """Every blob that rows own, and those of the others that are files at all."""
        sizes = self._source.sizes()
        wanted = sorted(must | (may & sizes.keys()))
        parts, damaged, done = [], [], 0
        total = sum(sizes.get(sha256, 0) for sha256 in wanted) or 1
        for sha256 in wanted:
            self._turn.keep()
            try:
                self._copy_blob(sha256)
            except DiskFull:
                raise
            except BlobError as error:
                damaged.append(str(error))
                continue
            parts.append(Part(name=sha256, sha256=sha256, size_bytes=sizes[sha256]))
            done += sizes[sha256]
            self._report(DUMPED + 0.8 * done / total, f"{len(parts)} of {len(wanted)} blobs")
        return parts, damaged

    def _copy_blob(self, sha256: str) -> None:
        path = self._source.path(sha256)
        size = path.stat().st_size
        if self._there.get(sha256) == size and not (
            self._verify and self._objects.found_digest(sha256) != sha256
        ):
            return
        self._objects.copy_in(path, sha256)
        self.copied_bytes += size

    def _copy_files(self) -> Iterator[Part]:
        """Curves, states of trainings, ledgers, recordings of the gateway: small, and some of them grow."""
        for path in self._beside():
            with (
                suppress(FileNotFoundError),
                path.open("rb") as opened,
            ):  # a training that ends removes its state
                self._report(0.95, str(path.relative_to(self._data_dir)))
                pieces = iter(lambda: opened.read(1 << 20), b"")
                yield self._keep(path.relative_to(self._data_dir).as_posix(), pieces)

    def _beside(self) -> Iterator[Path]:
        for top in sorted(self._data_dir.iterdir()):
            ours = top.name in NOT_COPIED or top.name.startswith((".", self._tables_file))
            if ours or top.resolve() == self._folder.resolve() or top.is_symlink():
                continue
            for path in [top] if top.is_file() else sorted(top.rglob("*")):
                if path.is_file() and not path.is_symlink() and self._folder.resolve() not in path.parents:
                    yield path


def _prune(folder: Path, *, keep: int, now: datetime) -> None:
    """Remove the oldest manifests, then every object that none of the others names."""
    for path in backups(folder)[:-keep]:
        path.unlink()
    named = {part.sha256 for path in backups(folder) for part in Manifest.read(path).parts()}
    BlobStore(folder / OBJECTS).sweep(named, older_than_s=-math.inf, now=now)
    for left in folder.glob(".new-*"):  # of a backup that was killed
        shutil.rmtree(left, ignore_errors=True)
