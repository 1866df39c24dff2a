"""One format of log lines for every process: UTC time, level, module, a phrase, key=value. No secrets."""

import logging
import time
from collections.abc import Iterable

from daemon.redaction import Redactor

FORMAT = "%(asctime)sZ %(levelname)s %(name)s %(message)s"
QUIET = ("apscheduler", "alembic", "urllib3", "httpx2")  # they speak per job run, not per event


class Discreet(logging.Formatter):
    """What a line looks like, wherever it is written: without secrets, traces included."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.clean(super().format(record))


def configure_logging(level: str, secrets: Iterable[str] = ()) -> None:
    """Send the log of this process to standard error; `secrets` are those that it was given."""
    stream = logging.StreamHandler()
    stream.setFormatter(Discreet(Redactor(secrets)))
    root = logging.getLogger()
    root.handlers = [stream]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
