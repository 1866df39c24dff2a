"""How long the motors worked and how long they rest, in a file: a restart is no rest. It moves nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from robot_bridge.errors import Resting
from robot_bridge.station.durable import read_json, write_json

log = logging.getLogger(__name__)

SAVE_EVERY_S: Final = 30.0  # of work; so much a crash forgets at most
ASK_AGAIN_S: Final = 60  # when the motors sleep until somebody wakes them


class RestBook:
    """Seconds of work since the motors rested last, and until when they rest.

    `asleep` means that their torque is off: by the rest policy until `until`, or, where that is None, until
    an operator wakes them.
    """

    def __init__(self, root: Path, *, work_s: float, rest_s: float, now: Callable[[], datetime]) -> None:
        self._path = root / "rest.json"
        self._work_s, self._rest_s, self._now = work_s, rest_s, now
        kept = read_json(self._path) or {}
        self.worked_s = self._saved_s = float(kept.get("worked_s", 0.0))
        self.asleep = bool(kept.get("asleep", False))
        until = kept.get("until")
        self.until = datetime.fromisoformat(until) if isinstance(until, str) else None

    @property
    def due(self) -> bool:
        """Whether the motors have worked long enough to rest now."""
        return not self.asleep and self.worked_s >= self._work_s

    @property
    def over(self) -> bool:
        """Whether a rest of the policy's has lasted long enough."""
        if not self.asleep or self.until is None:
            return False
        self.until = min(self.until, self._now() + timedelta(seconds=self._rest_s))  # the clock was put back
        return self._now() >= self.until

    @property
    def left_s(self) -> float:
        """Seconds that they still rest; 0 when awake, or asleep without an end."""
        if not self.asleep or self.until is None:
            return 0.0
        return min(max((self.until - self._now()).total_seconds(), 0.0), self._rest_s)

    def worked(self, seconds: float) -> None:
        """Add time in which the arm moved."""
        self.worked_s += seconds
        if self.worked_s - self._saved_s >= SAVE_EVERY_S:
            self.save()

    def sleep(self, *, by_policy: bool) -> None:
        """The torque is off from now on."""
        self.asleep = True
        self.until = self._now() + timedelta(seconds=self._rest_s) if by_policy else None
        self.save()

    def wake(self) -> None:
        """The torque is on again. Work counts from zero only after a whole rest of the policy's."""
        if self.over:
            self.worked_s = 0.0
        self.asleep, self.until = False, None
        self.save()

    def require_awake(self) -> None:
        """Raises:
        Resting: the motors rest, or are about to.
        """
        if not self.asleep and not self.due:
            return
        waits = ASK_AGAIN_S if self.until is None else max(1, math.ceil(self.left_s))
        waits = math.ceil(self._rest_s) if self.due else waits
        raise Resting(retry_after_s=waits, worked_s=round(self.worked_s))

    def save(self) -> None:
        """Write everything down; a disk that takes nothing is logged, and no reason to stop a motion."""
        until = None if self.until is None else self.until.isoformat()
        self._saved_s = self.worked_s
        try:
            write_json(self._path, {"worked_s": self.worked_s, "asleep": self.asleep, "until": until})
        except OSError as error:
            log.error("rest not written path=%s reason=%s", self._path, error)
