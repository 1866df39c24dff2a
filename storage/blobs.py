"""Content-addressed files: bytes in, their sha256 out, never a half-written file under its final name.

A blob is written under a temporary name, flushed to disk, renamed to its digest, and the folder is flushed;
only then may a row name it. A blob without a row is garbage that `sweep` removes. Rows live elsewhere.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from storage.errors import BlobCorrupt, BlobMissing, BlobNameInvalid, DiskFull

TEMPORARY = "tmp"  # folder of unfinished writes, beside the two-digit folders of finished ones
CHUNK_BYTES = 1 << 20
OUT_OF_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
HEXADECIMAL = frozenset("0123456789abcdef")


class BlobStore:
    """A folder of blobs; safe to share between threads and processes on one machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / TEMPORARY).mkdir(parents=True, exist_ok=True)

    def put(self, content: bytes) -> str:
        """Keep these bytes; the same bytes twice are one file, a damaged copy is replaced.

        Returns:
            Their sha256 in hexadecimal.

        Raises:
            DiskFull: nothing was kept.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        if not self._already_kept(sha256):
            self._keep(sha256, len(content), lambda target: _write_all(target, content))
        return sha256

    def put_file(self, source: Path) -> str:
        """Keep a file's content under its sha256 and remove the file.

        Raises:
            DiskFull: nothing was kept, the file is still where it was.
        """
        sha256 = _digest(source)
        if not self._already_kept(sha256):
            self._keep(sha256, source.stat().st_size, lambda target: _copy(source, target))
        source.unlink()
        return sha256

    def copy_in(self, source: Path, sha256: str) -> None:
        """Keep a copy of a file that should have this digest, whatever lies here under its name.

        Raises:
            BlobCorrupt: the file has another digest; nothing was kept.
            DiskFull: nothing was kept.
        """
        self._keep(sha256, source.stat().st_size, lambda target: _copy_checked(source, target, sha256))

    def path(self, sha256: str) -> Path:
        """Where a blob lies.

        Raises:
            BlobNameInvalid: not a digest.
            BlobMissing: no such file.
        """
        path = self._place(sha256)
        if not path.is_file():
            raise BlobMissing(sha256=sha256, path=path)
        return path

    def read(self, sha256: str) -> bytes:
        """A blob's bytes, checked against its name.

        Raises:
            BlobMissing: no such file.
            BlobCorrupt: the bytes are others than those that were put.
        """
        path = self.path(sha256)
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise BlobCorrupt(sha256=sha256, found=found, path=path)
        return content

    def found_digest(self, sha256: str) -> str:
        """What the file of this name hashes to now; the same as its name unless it is damaged."""
        return _digest(self.path(sha256))

    def old(self, *, older_than_s: float, now: datetime) -> Iterator[list[str]]:
        """The names of all blobs of some age, folder by folder."""
        oldest = now.timestamp() - older_than_s
        for folder in sorted(self.root.glob("??")):
            yield [path.name for path in sorted(folder.iterdir()) if is_older(path, oldest)]

    def remove(self, unnamed: Iterable[str], *, older_than_s: float, now: datetime) -> list[str]:
        """Remove blobs that nobody names, and unfinished writes, if they are old enough.

        Args:
            older_than_s: age in seconds below which a file is left alone, because its row may be on its way.

        Returns:
            The digests of the removed blobs.
        """
        oldest = now.timestamp() - older_than_s
        for path in (self.root / TEMPORARY).iterdir():
            _remove_old(path, oldest)
        return [sha256 for sha256 in unnamed if _remove_old(self._place(sha256), oldest)]

    def sizes(self) -> dict[str, int]:
        """Bytes of every finished blob, by digest, without reading any."""
        found = {}
        for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
            with suppress(FileNotFoundError):
                found[path.name] = path.stat().st_size
        return found

    def stale(self, keep: Iterable[str], *, older_than_s: float, now: datetime) -> list[Path]:
        """The files that `sweep` would remove now."""
        kept, oldest = set(keep), now.timestamp() - older_than_s
        return [p for p in sorted(self.root.glob("*/*")) if p.name not in kept and is_older(p, oldest)]

    def sweep(self, keep: Iterable[str], *, older_than_s: float, now: datetime) -> list[str]:
        """Remove every blob but these, and unfinished writes, if they are old enough.

        Args:
            keep: every sha256 that a row names.
            older_than_s: as in `remove`.

        Returns:
            The digests of the removed blobs, sorted.
        """
        kept = set(keep)
        found = [name for folder in self.old(older_than_s=older_than_s, now=now) for name in folder]
        unnamed = [sha256 for sha256 in found if sha256 not in kept]
        return self.remove(unnamed, older_than_s=older_than_s, now=now)

    def _place(self, sha256: str) -> Path:
        if len(sha256) != 64 or not HEXADECIMAL.issuperset(sha256):
            raise BlobNameInvalid(name=sha256)
        return self.root / sha256[:2] / sha256

    def _already_kept(self, sha256: str) -> bool:
        """Whether an intact copy lies here; its age starts anew, so that a sweep does not take it."""
        path = self._place(sha256)
        try:
            os.utime(path)
            return _digest(path) == sha256
        except FileNotFoundError:
            return False

    def _keep(self, sha256: str, size: int, write: Callable[[BinaryIO], None]) -> None:
        final = self._place(sha256)
        with self._room_for(size), self._temporary() as temporary:
            with temporary.open("xb") as target:
                write(target)
                target.flush()
                os.fsync(target.fileno())
            final.parent.mkdir(exist_ok=True)
            temporary.replace(final)
            _flush_folder(final.parent)
            _flush_folder(self.root)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        path = self.root / TEMPORARY / uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _room_for(self, size: int) -> Iterator[None]:
        free = shutil.disk_usage(self.root).free
        if size > free:
            raise DiskFull(needed=size, free=free, path=self.root)
        try:
            yield
        except OSError as error:
            if error.errno not in OUT_OF_ROOM:
                raise
            free = shutil.disk_usage(self.root).free
            raise DiskFull(needed=size, free=free, path=self.root) from error


def _write_all(target: BinaryIO, content: bytes) -> None:
    target.write(content)


def _copy(source: Path, target: BinaryIO) -> None:
    with source.open("rb") as opened:
        shutil.copyfileobj(opened, target, CHUNK_BYTES)


def _copy_checked(source: Path, target: BinaryIO, sha256: str) -> None:
    digest = hashlib.sha256()
    with source.open("rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
    if digest.hexdigest() != sha256:
        raise BlobCorrupt(sha256=sha256, found=digest.hexdigest(), path=source)


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_old(path: Path, oldest: float) -> bool:
    """Remove a file unless it is young, also if it became so a moment ago."""
    if not is_older(path, oldest):
        return False
    path.unlink(missing_ok=True)
    return True


def is_older(path: Path, oldest: float) -> bool:
    with suppress(FileNotFoundError):
        found = path.stat()
        return stat.S_ISREG(found.st_mode) and found.st_mtime < oldest
    return False
