"""How commands end: the exit statuses, and what is said when something was refused or failed.

A failure is one sentence with a code in brackets on standard error, never a trace; what is a fault of the
program keeps its trace.
"""

import errno
import os
import sys
from typing import Any

from daemon.errors import DaemonError
from robot_bridge.errors import RobotBridgeError
from storage.errors import StorageError

FAILED = 1
DIFFERENT = 3  # a rerun whose checkpoints are not those of then
INTERRUPTED = 130  # as shells give it after Ctrl-C

MEANINGS = {
    0: "it is done; for `doctor`, no fault (warnings may be)",
    FAILED: "refused or failed, with one sentence and a code on standard error; `doctor`: a fault; `backup`: "
    "something in the store is damaged; `db current`: not this release's tables; `iterate --wait`: the "
    "iteration did not finish; a question was not answered with yes",
    2: "the command line is wrong, and nothing was done; `station check`: nobody agreed to motion",
    DIFFERENT: "`rerun`: something came out different",
    INTERRUPTED: "ended by Ctrl-C; `demo` and `bench` also by SIGTERM",
}
ADVICE = {  # by the number of an error of the system
    errno.EADDRINUSE: "Another program listens there: end it, or take another port.",
    errno.EADDRNOTAVAIL: "This machine does not have that address; see --host.",
    errno.EACCES: "Run it as the user that owns it, or take another place.",
    errno.EPERM: "Run it as the user that owns it, or take another place.",
    errno.EROFS: "The file system can only be read; take another place.",
    errno.ENOENT: "Make it, or take another place.",
    errno.ENOTDIR: "A file stands where a folder is needed; move it, or take another place.",
    errno.ENOSPC: "Make room, for instance with `gymnastd gc`, and try again.",
}
MACHINE_REFUSED = "machine_refused"  # the code of what is no error of ours
LOOK = "See the reason, and try again."
DATABASE = "Start the database, or correct GYMNASTD_DATABASE_URL; `gymnastd doctor` looks at it."
ADDRESS = "Give an address like http://127.0.0.1:8400."


def ours() -> tuple[type[Exception], ...]:
    """Errors that are sentences already; those of the learner only where it has been loaded."""
    return (DaemonError, StorageError, RobotBridgeError, *_loaded("daemon.learning.errors", "LearningError"))


def of_the_machine() -> tuple[type[Exception], ...]:
    """Errors of the system and of the database, where that has been loaded."""
    return (OSError, *_loaded("sqlalchemy.exc", "OperationalError"))


def sentence(error: Any) -> str:
    """What is told of an error of one of these kinds: a sentence, what to do, and the code."""
    if isinstance(error, ours()):
        told: Any = error
        return f"gymnastd: {told} [{told.code}]"
    reason, advice = _reason_and_advice(error)
    return f"gymnastd: {reason.strip().rstrip('.')}. {advice} [{MACHINE_REFUSED}]"


def _reason_and_advice(error: Any) -> tuple[str, str]:
    kind = type(error)
    if issubclass(kind, _loaded("sqlalchemy.exc", "OperationalError")):
        return f"the database does not answer: {str(error.orig).splitlines()[0]}", DATABASE
    if issubclass(kind, _loaded("requests", "RequestException")):
        return str(error), ADDRESS
    if error.errno is None:
        return str(error), LOOK
    named = [] if error.filename is None else [str(error.filename)]
    return ": ".join([*named, os.strerror(error.errno)]), ADVICE.get(error.errno, LOOK)


def _loaded(module: str, name: str) -> tuple[type[Exception], ...]:
    """A class of a module that is heavy to load: it can only have been raised where it is loaded."""
    found = sys.modules.get(module)
    return () if found is None else (getattr(found, name),)
