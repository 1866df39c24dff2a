"""`gymnastd` in a process that kills itself with SIGKILL at one very touch of a file.

    python -m tests.faults.killed_command TOUCH PATTERN NUMBER ARGUMENTS...

TOUCH is `write` (`open` is called for it), `rename` (by its new name) or `remove`; it dies right before the
NUMBERth touch of a path that fits PATTERN. Our own code knows nothing of it: the interpreter's audit tells.
"""

from __future__ import annotations

import os
import signal
import sys
from fnmatch import fnmatch
from itertools import count
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR


def touched(event: str, arguments: tuple[Any, ...]) -> tuple[str, str]:
    """What is about to happen, and to which path; two empty words where it is nothing of these."""
    by_open = event == "open" and arguments[1] is not None  # os.open, also for `open`, has none
    if by_open and arguments[2] & WRITING:
        return "write", str(arguments[0])
    if event == "os.rename":
        return "rename", str(arguments[1])
    return ("remove", str(arguments[0])) if event == "os.remove" else ("", "")


def die_at(touch: str, pattern: str, *, number: int) -> None:
    numbers = count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        kind, path = touched(event, arguments)
        if kind == touch and fnmatch(path, pattern) and next(numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    from daemon.cli import main

    _, touch, pattern, number, *arguments = sys.argv
    die_at(touch, pattern, number=int(number))
    sys.argv = ["gymnastd", *arguments]
    main()
