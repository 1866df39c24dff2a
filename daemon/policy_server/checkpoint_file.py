"""A policy checkpoint as a file: loaded with the digest that names it, and watched for a successor.

The store's checkpoints are not here (see `daemon.phases.checkpoints`); a policy server knows one file.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.errors import LearningError
from daemon.learning.policy.loading import load_policy as read_policy
from daemon.learning.policy.policy import Policy
from daemon.learning.state import CheckpointUnreadable
from daemon.policy_server.sessions import PolicySessions
from robot_bridge.episode import PolicyRef

log = logging.getLogger(__name__)

WATCH_EVERY_S: Final = 1.0
LOAD_TRIES: Final = 3  # of a file that is replaced while it is read
VERSION_CHARACTERS: Final = 12  # of the digest

State: TypeAlias = tuple[int, int, int] | None  # inode, nanoseconds, bytes; None when there is no file


def load_policy(path: Path) -> tuple[Policy, PolicyRef]:
    """The policy in a checkpoint file, and which one it is: its version begins its digest.

    Raises:
        CheckpointUnreadable: no such file, not a policy checkpoint, or replaced again and again meanwhile.
    """
    device = choose_device()
    for _ in range(LOAD_TRIES):
        digest = _digest(path)
        policy = read_policy(path, device=device, precision=choose_precision(device.type))
        if digest == _digest(path):
            version = digest[:VERSION_CHARACTERS]
            return policy, PolicyRef(name=path.stem, version=version, digest=f"sha256:{digest}")
    raise CheckpointUnreadable(path=path, expected="a file that stays as it is", found="another at each look")


class CheckpointWatch:
    """Swaps the sessions' policy when its file is replaced; sessions that run keep theirs."""

    def __init__(self, path: Path, sessions: PolicySessions) -> None:
        self._path = path
        self._sessions = sessions
        self._seen = _state(path)

    def look(self) -> bool:
        """Load what is new. A file that cannot be used is told once, and the policy stays.

        Returns:
            Whether the policy was swapped.
        """
        found = _state(self._path)
        if found == self._seen:
            return False
        self._seen = found
        if found is None:
            log.warning("checkpoint gone path=%s policy stays", self._path)
            return False
        try:
            policy, ref = load_policy(self._path)
            if ref == self._sessions.ref:
                return False
            self._sessions.swap(policy, ref)
        except (LearningError, OSError) as error:
            log.warning("checkpoint refused path=%s policy stays reason=%s", self._path, error)
            return False
        return True

    @contextmanager
    def looking(self, every_s: float = WATCH_EVERY_S) -> Iterator[None]:
        """Look again and again, in a thread, for the length of a with block."""
        stop = threading.Event()
        thread = threading.Thread(target=self._until, args=(stop, every_s), name="checkpoint-watch")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _until(self, stop: threading.Event, every_s: float) -> None:
        while not stop.wait(every_s):
            self.look()


def _state(path: Path) -> State:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointUnreadable(path=path, expected="a file that can be read", found=reason) from error
