"""Log lines of every process: UTC time, level, module, a phrase, key=value. No secrets.

What is said while something is traced has the trace's id too. `json` is the same as an object per line.
"""

import json
import logging
import sys
import time
from collections.abc import Iterable
from typing import Literal, TypeAlias

from daemon.redaction import Redactor
from robot_bridge.spans import trace_id

LogFormat: TypeAlias = Literal["text", "json"]

FORMAT = "%(asctime)sZ %(levelname)s %(name)s %(message)s"
QUIET = ("apscheduler", "alembic", "urllib3", "httpx2")  # they speak per job run, not per event


class Discreet(logging.Formatter):
    """What a line looks like, wherever it is written: without secrets, traces of errors included."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.clean(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """The line itself, before the trace of an error."""
        line, of = super().formatMessage(record), trace_id()
        return line if of is None else f"{line} trace_id={of}"


class DiscreetJson(Discreet):
    """The same as one JSON object: at, level, logger, message; trace_id and error where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        found = {
            "at": f"{self.formatTime(record, self.datefmt)}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "trace_id": trace_id(),
            "error": self.formatException(record.exc_info) if record.exc_info else None,
        }
        told = {name: self._redactor.clean(text) for name, text in found.items() if text is not None}
        return json.dumps(told, ensure_ascii=False)


class ToStandardError(logging.Handler):
    """Lines go to what standard error is now: a thread may outlive the stream that was there at the start."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            if not sys.stderr.closed:  # else there is nowhere to tell it
                self.handleError(record)


def configure_logging(level: str, secrets: Iterable[str] = (), *, form: LogFormat = "text") -> None:
    """Send the log of this process to standard error; `secrets` are those that it was given."""
    stream, redactor = ToStandardError(), Redactor(secrets)
    stream.setFormatter(DiscreetJson(redactor) if form == "json" else Discreet(redactor))
    root = logging.getLogger()
    root.handlers = [stream]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
