"""The log of one phase run: what its worker said while it ran, in a file of bounded size, without secrets.

It lies beside the curves of the run. Past its size the older half is dropped, so the end is always there.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from daemon.logs import Discreet
from daemon.redaction import redactor_of
from daemon.settings import Settings

NAME = "log.txt"
HALF_BYTES = 2 * 1024 * 1024  # of two files: the one that is written, and the one before it
READ_BYTES = 1024 * 1024  # of the end; more is never read for an answer


class QuietFile(RotatingFileHandler):
    """A file that a full disk makes fall silent: a phase does not end because its log does."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Say nothing: saying it would be another line for the same disk."""


def log_path(data_dir: Path, phase_run_id: str) -> Path:
    """Where the log of a phase run is."""
    return data_dir / "runs" / phase_run_id / NAME


@contextmanager
def phase_log(settings: Settings, phase_run_id: str, *, half_bytes: int = HALF_BYTES) -> Iterator[Path]:
    """Write everything that this process logs to the run's file too, until the block ends."""
    path = log_path(settings.data_dir, phase_run_id)
    with suppress(OSError):  # the same disk: the phase will say so
        path.parent.mkdir(parents=True, exist_ok=True)
    file = QuietFile(path, maxBytes=half_bytes, backupCount=1, encoding="utf-8", delay=True)
    file.setFormatter(Discreet(redactor_of(settings)))
    root = logging.getLogger()
    root.addHandler(file)
    try:
        yield path
    finally:
        root.removeHandler(file)
        file.close()


def read_tail(path: Path, lines: int) -> str | None:
    """The last lines of a run's log; None when there is no log here."""
    older, found = path.with_name(NAME + ".1"), [_end(path)]
    if found[0] is None:
        return None
    if found[0].count("\n") < lines:
        found.insert(0, _end(older))
    text = "".join(part for part in found if part is not None)
    return "".join(text.splitlines(keepends=True)[-lines:])


def _end(path: Path) -> str | None:
    """The end of a file, from the beginning of a line on."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - READ_BYTES))
            text = stream.read(READ_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    return text if size <= READ_BYTES else text.partition("\n")[2]
