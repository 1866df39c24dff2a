"""One daemon per data directory, held by an advisory lock that the kernel drops when its holder dies."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from daemon.errors import DataDirectoryBusy, DataDirectoryUnfinished

LOCK_NAME = "gymnastd.lock"
RESTORING_NAME = "restoring"  # there while `gymnastd restore` fills the directory


class DataDirectoryLock:
    """Holds a data directory for as long as it is entered. The file stays; only the lock comes and goes.

    Raises (on entering):
        DataDirectoryBusy: another process holds it; the message names that process.
        DataDirectoryUnfinished: a restore was killed in it; `restoring` is what may enter then.
    """

    def __init__(self, data_dir: Path, *, restoring: bool = False) -> None:
        self._data_dir, self._restoring = data_dir, restoring
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 100).decode(errors="replace").strip()
            os.close(descriptor)
            raise DataDirectoryBusy(data_dir=self._data_dir, holder=holder or "pid unknown") from None
        if not self._restoring and (self._data_dir / RESTORING_NAME).exists():
            os.close(descriptor)
            raise DataDirectoryUnfinished(data_dir=self._data_dir)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"pid {os.getpid()}\n".encode())
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
