"""The emergency stop as a file: set over the wire by anybody, cleared only by somebody at the station.

A software stop is not a safety-rated stop: keep the arm's power switch within reach.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from robot_bridge.errors import EStopped
from robot_bridge.station.durable import read_json, remove_file, write_json


class EStopLatch:
    """Latched as long as its file exists, whoever wrote it and however often the station restarts."""

    def __init__(self, root: Path) -> None:
        self._path = root / "estop.json"
        self._unwritten: dict[str, str] | None = None

    def latch(self, reason: str, now: datetime) -> dict[str, str]:
        """Stop; a second stop keeps the first one's time and reason. It holds even when the disk is full."""
        latched = self.read()
        if latched is None:
            latched = {"since": now.isoformat(), "reason": reason or "no reason given"}
            self._unwritten = latched
            write_json(self._path, latched)
            self._unwritten = None
        return latched

    def read(self) -> dict[str, str] | None:
        """Time and reason of the stop, or None when the arm may move. An unreadable file is a stop."""
        if self._unwritten is not None or not self._path.exists():
            return self._unwritten
        tree = read_json(self._path) or {}
        return {key: str(tree.get(key, "unknown")) for key in ("since", "reason")}

    def require_clear(self) -> None:
        """Raises:
        EStopped: the stop is latched.
        """
        latched = self.read()
        if latched is not None:
            raise EStopped(**latched)

    def clear(self) -> None:
        """Let the arm move again; call it at the station, never over the wire."""
        remove_file(self._path)
