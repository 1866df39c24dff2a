"""What the station waits for a human to do, as a file: written by the station, removed by whoever did it.

Like the emergency stop it outlives the station, and a command at the station may remove it while one runs.
"""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

from robot_bridge.errors import SpoolCorrupt, WaitingHuman
from robot_bridge.station.durable import read_json, remove_file, write_json

log = logging.getLogger(__name__)

UNREADABLE = "human.json does not read back: look at the robot and at the station's disk"


class HumanCall:
    """Open as long as its file exists in the station's folder `root`."""

    def __init__(self, root: Path) -> None:
        self._path = root / "human.json"
        self._unwritten: str | None = None

    def ask(self, reason: str, now: datetime) -> None:
        """Call for somebody; a second call keeps the first one's reason."""
        if self.reason() is not None:
            return
        self._unwritten = reason
        try:
            write_json(self._path, {"reason": reason, "since": now.isoformat()})
        except OSError as error:  # the call holds until it is answered, or the station ends
            log.error("call for a human not written path=%s reason=%s", self._path, error)
        else:
            self._unwritten = None

    def reason(self) -> str | None:
        """What somebody is asked to do, or None when nobody is needed. An unreadable file is a call."""
        if self._unwritten is not None:
            return self._unwritten
        try:
            tree = read_json(self._path)
        except (SpoolCorrupt, OSError):
            return UNREADABLE
        return None if tree is None else str(tree.get("reason", UNREADABLE))

    def require_none(self) -> None:
        """Raises:
        WaitingHuman: somebody must come first.
        """
        reason = self.reason()
        if reason is not None:
            raise WaitingHuman(reason=reason)

    def done(self) -> bool:
        """Say that it is done; gives whether anything was waited for."""
        waited = self.reason() is not None
        self._unwritten = None
        remove_file(self._path)
        return waited
