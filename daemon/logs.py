"""One format of log lines for every process: UTC time, level, module, a phrase, then key=value."""

import logging
import time

FORMAT = "%(asctime)sZ %(levelname)s %(name)s %(message)s"
QUIET = ("apscheduler", "alembic", "urllib3", "httpx2")  # they speak per job run, not per event


def line_format() -> logging.Formatter:
    """What a line looks like, wherever it is written."""
    formatter = logging.Formatter(FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    return formatter


def configure_logging(level: str) -> None:
    """Send the log of this process to standard error."""
    stream = logging.StreamHandler()
    stream.setFormatter(line_format())
    root = logging.getLogger()
    root.handlers = [stream]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
