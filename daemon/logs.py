"""One format of log lines for every process: UTC time, level, module, a phrase, then key=value."""

import logging
import time

FORMAT = "%(asctime)sZ %(levelname)s %(name)s %(message)s"
QUIET = ("apscheduler", "alembic", "urllib3", "httpx2")  # they speak per job run, not per event


def configure_logging(level: str) -> None:
    """Send the log of this process to standard error."""
    formatter = logging.Formatter(FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    stream = logging.StreamHandler()
    stream.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [stream]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
