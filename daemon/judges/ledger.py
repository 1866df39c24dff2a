"""What a judge has cost an iteration, kept on disk, and what it may cost at most.

A request is entered before it is sent, at the most that it can cost, and corrected when the answer says what
it did cost. So no crash, and no number of threads, can spend more than the budget.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from daemon.judges.day_ledger import DayLedger
from daemon.judges.errors import JudgeBudgetSpent
from robot_bridge.station.durable import replace_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars per million tokens; `prompt_tokens` is the most that a question can have."""

    prompt: float = 0.0
    completion: float = 0.0
    prompt_tokens: int = 20_000

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(slots=True, kw_only=True)
class Spent:
    """Totals of one iteration. Cached answers cost nothing and are counted apart."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    cached: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What was set aside for one request, and the day whose budget it was taken from."""

    usd: float
    day: date | None


class Ledger:
    """The costs of one iteration, in a JSON file. Safe to use from several threads of one process."""

    def __init__(
        self,
        file: Path,
        *,
        prices: Prices,
        max_requests: int,
        max_usd: float | None,
        day: DayLedger | None = None,
    ) -> None:
        self._file, self._prices, self._day = file, prices, day
        self._max_requests, self._max_usd = max_requests, max_usd
        self._lock = threading.Lock()
        self._spent = Spent(**json.loads(file.read_text())) if file.is_file() else Spent()

    @property
    def spent(self) -> Spent:
        """A copy of the totals."""
        with self._lock:
            return Spent(**asdict(self._spent))

    def reserve(self, *, completion_tokens: int) -> Reserved:
        """Enter a request that is about to be sent; what was set aside for it.

        Raises:
            JudgeBudgetSpent, JudgeDaySpent: it could exceed a budget; it must not be sent.
        """
        most = self._prices.cost(self._prices.prompt_tokens, completion_tokens)
        with self._lock:
            if self._spent.requests >= self._max_requests:
                raise JudgeBudgetSpent(what="requests", spent=self._spent.requests, budget=self._max_requests)
            if self._max_usd is not None and self._spent.usd + most > self._max_usd:
                raise JudgeBudgetSpent(what="dollars", spent=self._spent.usd, budget=self._max_usd)
            day = None if self._day is None else self._day.reserve(most)
            self._spent.requests += 1
            self._spent.usd += most
            self._write()
        return Reserved(usd=most, day=day)

    def settle(self, reserved: Reserved, *, prompt_tokens: int, completion_tokens: int) -> None:
        """The answer came and cost this; what was set aside for it is free again."""
        with self._lock:
            self._spent.prompt_tokens += prompt_tokens
            self._spent.completion_tokens += completion_tokens
            surplus = self._prices.cost(prompt_tokens, completion_tokens) - reserved.usd
            self._spent.usd += surplus
            self._write()
            self._correct_day(reserved, surplus)

    def refund(self, reserved: Reserved) -> None:
        """The request was never worked on: as if it had not been entered."""
        with self._lock:
            self._spent.requests -= 1
            self._spent.usd -= reserved.usd
            self._write()
            self._correct_day(reserved, -reserved.usd)

    def note_cached(self) -> None:
        """A question was answered before."""
        with self._lock:
            self._spent.cached += 1

    def _correct_day(self, reserved: Reserved, surplus: float) -> None:
        if self._day is not None and reserved.day is not None:
            self._day.correct(surplus, entered=reserved.day)

    def _write(self) -> None:
        replace_file(self._file, json.dumps(asdict(self._spent)).encode())
