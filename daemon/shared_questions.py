"""Questions to addresses that may be slow or away, asked once for all who want the answer at the same time.

Whoever asks gets a future and decides how long to wait for it. An answer is given again for as long as it
says itself; a question that is not answered yet is never asked a second time beside itself.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Generic[Answer]):
    """One question on its way; `asked_at` is seconds of the clock that all share."""

    answer: "Future[Answer]"
    asked_at: float


class SharedQuestions(Generic[Answer]):
    """One question at a time to each address. Threads may share it.

    Args:
        ask: gives the answer of one address; it raises nothing.
        lasts_s: how many seconds after it was asked for an answer is taken for now.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        ask: Callable[[str], Answer],
        lasts_s: Callable[[Answer], float],
        clock: Callable[[], float],
        name: str,
    ) -> None:
        self._ask, self._lasts_s, self._clock = ask, lasts_s, clock
        self._threads = ThreadPoolExecutor(max_workers=max(1, len(addresses)), thread_name_prefix=name)
        self._lock = threading.Lock()
        self._questions: dict[str, Question[Answer]] = {}

    def ask(self, address: str) -> Question[Answer]:
        """The question to an address: one that is on its way or still fresh, else a new one."""
        with self._lock:
            before = self._questions.get(address)
            if before is not None and self._holds(before):
                return before
            asked = Question(answer=self._threads.submit(self._ask, address), asked_at=self._clock())
            self._questions[address] = asked
            return asked

    def close(self) -> None:
        """Ask nobody any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _holds(self, question: Question[Answer]) -> bool:
        if not question.answer.done():
            return True
        return self._clock() - question.asked_at < self._lasts_s(question.answer.result())
