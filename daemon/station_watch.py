"""How the stations stand now, for people who look: asked at most once a second, and never waited for long.

A station that does not answer is left alone for a while, so that nothing is slow because a robot is off.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass

from daemon.settings import Settings
from daemon.station_clients import station_client
from robot_bridge.description import StatusAnswer
from robot_bridge.errors import RobotBridgeError

FRESH_S = 1.0  # how long an answer is taken for now
LEFT_ALONE_S = 5.0  # a station that did not answer
ANSWER_S = 2.0  # of one question
PATIENCE_S = 0.5  # whoever looks waits no longer for all of them together


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One station: what it said, or why it said nothing."""

    address: str
    status: StatusAnswer | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    answer: "Future[Standing]"
    asked_at: float


class StationWatch:
    """The stations of the settings; none where AutoEval has them. Threads may share it."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._addresses = () if settings.collect_via == "autoeval" else settings.stations
        self._threads = ThreadPoolExecutor(
            max_workers=max(1, len(self._addresses)), thread_name_prefix="stations"
        )
        self._lock = threading.Lock()
        self._questions: dict[str, _Question] = {}

    def look(self) -> list[Standing]:
        """How each station stands, in the order of the settings."""
        answers = [(address, self._ask(address)) for address in self._addresses]
        wait([answer for _, answer in answers], timeout=PATIENCE_S)
        return [
            answer.result() if answer.done() else Standing(address=address, failure="has not answered yet")
            for address, answer in answers
        ]

    def close(self) -> None:
        """Ask nobody any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, address: str) -> "Future[Standing]":
        with self._lock:
            before = self._questions.get(address)
            if before is not None and self._holds(before):
                return before.answer
            answer = self._threads.submit(self._standing, address)
            self._questions[address] = _Question(answer=answer, asked_at=self._clock())
            return answer

    def _holds(self, question: _Question) -> bool:
        if not question.answer.done():
            return True
        lasts_s = FRESH_S if question.answer.result().failure is None else LEFT_ALONE_S
        return self._clock() - question.asked_at < lasts_s

    def _standing(self, address: str) -> Standing:
        try:
            with closing(station_client(self._settings, address, tries=1)) as client:
                return Standing(address=address, status=client.status(timeout_s=ANSWER_S))
        except (RobotBridgeError, OSError) as error:
            return Standing(address=address, failure=str(error))
