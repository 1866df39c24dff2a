"""One format of log lines for every process: UTC time, level, module, a phrase, then key=value."""

import logging
import re
import time

FORMAT = "%(asctime)sZ %(levelname)s %(name)s %(message)s"
SECRET = re.compile(r"(gmd_[0-9a-f]{16}_|gst_|(?i:bearer) )[0-9A-Za-z._~+/=-]{20,}")  # API, station, any
QUIET = ("apscheduler", "alembic", "urllib3", "httpx2")  # they speak per job run, not per event


class Discreet(logging.Formatter):
    """Blackens what looks like one of our tokens, traces included, wherever a line has it from."""

    def format(self, record: logging.LogRecord) -> str:
        return SECRET.sub(r"\1***", super().format(record))


def line_format() -> logging.Formatter:
    """What a line looks like, wherever it is written."""
    formatter = Discreet(FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
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
