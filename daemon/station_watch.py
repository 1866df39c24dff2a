"""How the stations stand now, for people who look: asked at most once a second, and never waited for long.

A station that does not answer is left alone for a while, so that nothing is slow because a robot is off.
"""

import time
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import closing
from dataclasses import dataclass

from daemon.settings import Settings
from daemon.shared_questions import SharedQuestions
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


class StationWatch:
    """The stations of the settings; none where AutoEval has them. Threads may share it."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._addresses = watched_addresses(settings)
        self._questions = SharedQuestions(
            self._addresses, ask=self._standing, lasts_s=_lasts_s, clock=clock, name="stations"
        )

    def look(self, *, patience_s: float | None = None) -> list[Standing]:
        """How each station stands, in the order of the settings; with PATIENCE_S, unless told otherwise."""
        answers = [(address, self._questions.ask(address).answer) for address in self._addresses]
        patience_s = PATIENCE_S if patience_s is None else patience_s
        wait([answer for _, answer in answers], timeout=patience_s)
        return [
            answer.result() if answer.done() else Standing(address=address, failure="has not answered yet")
            for address, answer in answers
        ]

    def name_of(self, address: str) -> str:
        """What a station calls itself; its address when it does not say."""
        try:
            with closing(station_client(self._settings, address, tries=1)) as client:
                return client.station().station_id
        except (RobotBridgeError, OSError):
            return address

    def close(self) -> None:
        """Ask nobody any more."""
        self._questions.close()

    def _standing(self, address: str) -> Standing:
        try:
            with closing(station_client(self._settings, address, tries=1)) as client:
                return Standing(address=address, status=client.status(timeout_s=ANSWER_S))
        except (RobotBridgeError, OSError) as error:
            return Standing(address=address, failure=str(error))


def watched_addresses(settings: Settings) -> tuple[str, ...]:
    """The stations that this daemon may ask itself, in the order of the settings."""
    return () if settings.collect_via == "autoeval" else tuple(settings.stations)


def _lasts_s(standing: Standing) -> float:
    return FRESH_S if standing.failure is None else LEFT_ALONE_S
