"""What judges may cost in a day, all iterations of this data directory together.

One small file per date (UTC) under a lock that processes share. As in the ledger of an iteration, a request
is entered before it is sent, at the most that it can cost.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
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
        return self.spent_on(self._now().date())

    def reserve(self, usd: float) -> date:
        """Enter what a request may cost at most; the day that it is entered for.

        Raises:
            JudgeDaySpent: it could exceed the budget of today; it must not be sent.
        """
        with self._locked():
            today = self._now().date()
            spent = self.spent_on(today)
            if spent + usd > self._max_usd:
                raise JudgeDaySpent(spent=spent, budget=self._max_usd)
            self._write(today, spent + usd)
            return today

    def correct(self, usd: float, *, entered: date) -> None:
        """A request cost so much more, or less, than was entered for it on that day."""
        with self._locked():
            self._write(entered, max(0.0, self.spent_on(entered) + usd))

    def spent_on(self, day: date) -> float:
        """The dollars of one day."""
        file = self._file(day)
        return float(json.loads(file.read_text())["usd"]) if file.is_file() else 0.0

    def _file(self, day: date) -> Path:
        return self._folder / f"{day.isoformat()}.json"

    def _write(self, day: date, usd: float) -> None:
        replace_file(self._file(day), json.dumps({"usd": usd}).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed, by a crash too
            yield
