"""The door to packages that a lab has installed itself: loading them, and calling what may never return.

Nothing of theirs is copied here and nothing is imported before a driver is made. Their clients raise whatever
they like, so the one broad `except` of the robot side stands here: it turns anything into our own errors.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from robot_bridge.errors import DriverDisconnected, DriverError

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

CALL_TIMEOUT_S: Final = 10.0  # of a call that should come back within one second by itself


class LabPackageMissing(DriverError):
    """The lab's own installation does not have the package that speaks to its arm."""

    code = "lab_package_missing"
    sentence = "module {module} cannot be imported here ({reason}). Install {install}."


def lab_module(module: str, *, install: str) -> Any:
    """A module of the lab's own installation.

    Raises:
        LabPackageMissing: it, or something it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        raise LabPackageMissing(module=module, reason=cause, install=install) from cause


class LabLine:
    """Calls into one lab package, one at a time, each with a deadline.

    A call that misses it goes on in its own thread, because nothing can end it. Until it does, every further
    call is refused: two calls on one socket would mix up their answers.
    """

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self._stuck: threading.Thread | None = None

    def ask(self, call: str, work: Callable[[], Answer], *, timeout_s: float = CALL_TIMEOUT_S) -> Answer:
        """What `work` gives.

        Raises:
            DriverDisconnected: it raised, or did not come back in time, or an earlier one has not yet.
            DriverError: it raised one of ours.
        """
        if self._stuck is not None and self._stuck.is_alive():
            raise self.silent(call, f"an earlier call has not come back ({self._stuck.name})")
        answers: list[Answer] = []
        faults: list[Exception] = []

        def run() -> None:
            try:
                answers.append(work())
            except Exception as fault:  # a foreign package: it may raise anything
                faults.append(fault)

        self._stuck = thread = threading.Thread(target=run, name=f"{self.interface} {call}", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if answers:
            return answers[0]
        if not faults:
            raise self.silent(call, f"no answer within {timeout_s} s")
        if isinstance(faults[0], DriverError):
            raise faults[0]
        log.warning("lab package raised interface=%s call=%s error=%r", self.interface, call, faults[0])
        raise self.silent(call, f"{type(faults[0]).__name__}: {faults[0]}") from faults[0]

    def silent(self, call: str, reason: str) -> DriverDisconnected:
        """The error for a call whose outcome nobody knows."""
        return DriverDisconnected(interface=self.interface, call=call, reason=reason)


@lru_cache(maxsize=4)
def software_digest(interface: str) -> str:
    """sha256 hex over the code of this folder and the name of the lab's package; its version is the lab's."""
    digest = hashlib.sha256(interface.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
