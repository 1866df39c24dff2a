"""`gymnastd restore`: a backup into an empty data directory and an empty database, whole or not at all.

Every file of the backup is verified first. While files are written, a mark in the data directory keeps the
daemon from starting on it; the rows come last, in one transaction, and then the mark goes.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from daemon.data_directory import LOCK_NAME, RESTORING_NAME, DataDirectoryLock
from daemon.operations.errors import BackupDamaged, PlaceTaken
from daemon.operations.manifest import OBJECTS, Manifest, Part, find
from daemon.operations.progress import Report
from daemon.operations.turn import MAINTENANCE
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database
from robot_bridge.station.durable import replace_file, sync_folder
from storage import leases, snapshot
from storage.blobs import BlobStore
from storage.db import Database, known_revisions
from storage.errors import BlobMissing, DatabaseNewer

NO_CONTENT = {LOCK_NAME, RESTORING_NAME, "lost+found"}
VERIFIED = 0.5  # share of the work when every digest is checked


def restore(
    settings: Settings, folder: Path, *, name: str | None, report: Report, now: Callable[[], datetime]
) -> Manifest:
    """Put a backup back; what was restored.

    Raises:
        BackupMissing, BackupUnreadable: there is no such backup.
        BackupDamaged: files of it are missing, cut short or changed, all of them named.
        DatabaseNewer: a later release made it.
        PlaceTaken: the data directory or the database holds something.
        DataDirectoryBusy: a daemon runs on the data directory.
        DiskFull: there is no room for it; the data directory is empty again.
    """
    manifest = find(folder, name)
    if manifest.revision not in known_revisions():
        raise DatabaseNewer(found=manifest.revision, newest=known_revisions()[-1])
    objects = BlobStore(folder / OBJECTS)
    _verify(manifest, objects, report)
    with DataDirectoryLock(settings.data_dir, restoring=True):
        _require_empty(settings.data_dir)
        database = open_database(settings)
        try:
            _require_no_rows(database)
            replace_file(settings.data_dir / RESTORING_NAME, manifest.name.encode())
            _put_files(settings, manifest, objects=objects, report=report)
            _put_rows(database, manifest, objects=objects, now=now())
        except BaseException:
            database.dispose()
            _empty(settings.data_dir)
            raise
        finally:
            database.dispose()
        (settings.data_dir / RESTORING_NAME).unlink()
    report(1.0, "restored")
    return manifest


def _verify(manifest: Manifest, objects: BlobStore, report: Report) -> None:
    faults, done = [], 0
    for part in manifest.parts():
        try:
            found = objects.found_digest(part.sha256)
        except BlobMissing:
            faults.append(f"{part.name} is missing, sha256 {part.sha256}")
        else:
            if found != part.sha256:
                size = objects.path(part.sha256).stat().st_size
                faults.append(
                    f"{part.name} has {size} of {part.size_bytes} bytes and sha256 {found}, "
                    f"expected {part.sha256}"
                )
        done += part.size_bytes
        report(VERIFIED * done / (manifest.total_bytes or 1), "verifying")
    if faults:
        raise BackupDamaged(name=manifest.name, faults=faults)


def _require_empty(data_dir: Path) -> None:
    """What a restore that was killed left is no content: it is removed."""
    if (data_dir / RESTORING_NAME).exists():
        _empty(data_dir)
    found = sorted(path.name for path in data_dir.iterdir() if path.name not in NO_CONTENT)
    if found:
        raise PlaceTaken(what=f"data directory {data_dir}", found=", ".join(found[:5]))


def _require_no_rows(database: Database) -> None:
    with database.read() as session:
        found = snapshot.rows_in(session)
    if found:
        said = ", ".join(f"{count} {name}" for name, count in found.items())
        raise PlaceTaken(what=f"database {database.url.render_as_string(hide_password=True)}", found=said)


def _put_files(settings: Settings, manifest: Manifest, *, objects: BlobStore, report: Report) -> None:
    blobs, done = open_blobs(settings), 0
    total = sum(part.size_bytes for part in (*manifest.blobs, *manifest.files)) or 1
    for part in (*manifest.blobs, *manifest.files):
        if part.name == part.sha256:
            blobs.copy_in(objects.path(part.sha256), part.sha256)
        else:
            _put_file(settings.data_dir, part, source=objects.path(part.sha256))
        done += part.size_bytes
        report(VERIFIED + (1 - VERIFIED) * done / total, "writing")


def _put_file(data_dir: Path, part: Part, *, source: Path) -> None:
    target = (data_dir / part.name).resolve()
    if data_dir.resolve() not in target.parents:
        raise BackupDamaged(name=part.name, faults=[f"{part.name} would lie outside of {data_dir}"])
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    with target.open("rb") as written:
        os.fsync(written.fileno())
    sync_folder(target.parent)


def _put_rows(database: Database, manifest: Manifest, *, objects: BlobStore, now: datetime) -> None:
    """The tables of the backup's own revision get their rows, and then this release's migrations."""
    contents = {part.name: objects.path(part.sha256) for part in manifest.tables}

    def lines_of(table: str) -> Iterator[bytes]:
        if table in contents:
            with contents.pop(table).open("rb") as opened:
                yield from opened

    if database.revision() is not None:
        database.downgrade("base")
    database.upgrade(manifest.revision)
    with database.write() as session:
        loaded = snapshot.load(session, lines_of)
        if contents or loaded != manifest.rows:
            faults = [f"{loaded} of {manifest.rows} rows have a table", *sorted(contents)]
            raise BackupDamaged(name=manifest.name, faults=faults)
    database.upgrade()
    with database.write() as session:  # the backup itself held it
        leases.revoke(session, MAINTENANCE, now=now)


def _empty(data_dir: Path) -> None:
    """Remove all but the lock, and the mark last."""
    for path in data_dir.iterdir():
        if path.name in NO_CONTENT:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (data_dir / RESTORING_NAME).unlink(missing_ok=True)
