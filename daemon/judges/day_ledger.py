"""What judges may cost in a day, all iterations of this data directory together.

One small file per date (UTC) under a lock that processes share. As in the ledger of an iteration, a request
is entered before it is sent, at the most that it can cost.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from daemon.judges.errors import JudgeDaySpent
from robot_bridge.station.durable import replace_file


class DayLedger:
    """The dollars of each day, in a folder. Safe to use from several processes of one machine."""

    def __init__(self, folder: Path, *, max_usd: float, now: Callable[[], datetime]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._max_usd, self._now = folder, max_usd, now

    @property
    def spent(self) -> float:
        """The dollars of today."""
        file = self._file()
        return float(json.loads(file.read_text())["usd"]) if file.is_file() else 0.0

    def reserve(self, usd: float) -> None:
        """Enter what a request may cost at most.

        Raises:
            JudgeDaySpent: it could exceed the budget of today; it must not be sent.
        """
        with self._locked():
            if self.spent + usd > self._max_usd:
                raise JudgeDaySpent(spent=self.spent, budget=self._max_usd)
            self._write(self.spent + usd)

    def correct(self, usd: float) -> None:
        """A request cost so much more, or less, than was entered for it."""
        with self._locked():
            self._write(max(0.0, self.spent + usd))

    def _file(self) -> Path:
        return self._folder / f"{self._now():%Y-%m-%d}.json"

    def _write(self, usd: float) -> None:
        replace_file(self._file(), json.dumps({"usd": usd}).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed, by a crash too
            yield
