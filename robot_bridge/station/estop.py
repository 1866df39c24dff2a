"""The emergency stop as a file: set over the wire by anybody, cleared only by somebody at the station.

A software stop is not a safety-rated stop: keep the arm's power switch within reach.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from datetime import datetime
from pathlib import Path

from robot_bridge.errors import EStopped, SpoolCorrupt
from robot_bridge.station.durable import PRIVATE, read_json, remove_file, write_json

log = logging.getLogger(__name__)

TOLD = ("since", "reason")  # the nonce stays at the station
UNREADABLE = {"since": "unknown", "reason": "estop.json does not read back"}


class EStopLatch:
    """Latched as long as its file exists, whoever wrote it and however often the station restarts."""

    def __init__(self, root: Path) -> None:
        self._path = root / "estop.json"
        self._unwritten: dict[str, str] | None = None

    def latch(self, reason: str, now: datetime) -> dict[str, str]:
        """Stop; a second stop keeps the first one's time and reason.

        It holds from the first line on, and also when the disk takes no more: see `persist`.
        """
        latched = self.read()
        if latched is None:
            latched = {"since": now.isoformat(), "reason": reason or "no reason given"}
            self._unwritten = {**latched, "nonce": secrets.token_urlsafe(16)}
            self.persist()
        return latched

    def persist(self) -> None:
        """Write a stop that is only in memory yet; a disk that refuses is logged, and tried again later."""
        unwritten = self._unwritten
        if unwritten is None:
            return
        try:
            write_json(self._path, unwritten, mode=PRIVATE)
        except OSError as error:
            log.error("emergency stop not written path=%s reason=%s", self._path, error)
        else:
            self._unwritten = None

    def read(self) -> dict[str, str] | None:
        """Time and reason of the stop, or None when the arm may move. An unreadable file is a stop."""
        tree = self._tree()
        return None if tree is None else {name: str(tree.get(name, "unknown")) for name in TOLD}

    def require_clear(self) -> None:
        """Raises:
        EStopped: the stop is latched.
        """
        latched = self.read()
        if latched is not None:
            raise EStopped(**latched)

    def matches(self, nonce: str) -> bool:
        """Whether somebody read this in the station's own folder."""
        kept = (self._tree() or {}).get("nonce")
        return kept is not None and hmac.compare_digest(str(kept).encode(), nonce.encode())

    def clear(self) -> None:
        """Let the arm move again; call it at the station, never over the wire."""
        self._unwritten = None
        remove_file(self._path)

    def _tree(self) -> dict[str, str] | None:
        unwritten = self._unwritten
        if unwritten is not None:
            return unwritten
        try:
            return read_json(self._path)
        except (SpoolCorrupt, OSError):
            return UNREADABLE
