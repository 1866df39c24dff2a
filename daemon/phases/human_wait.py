"""How long one robot waits for somebody at a stretch, and when that was too long."""

import time
from collections.abc import Callable

from daemon.scheduling.errors import HumanAwaited


class HumanWait:
    """The clock of one robot in one attempt: it begins when somebody is needed, and again the next time."""

    def __init__(self, robot: str, *, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._robot, self._limit_s, self._clock = robot, limit_s, clock
        self._since: float | None = None

    def goes_on(self, reason: str) -> None:
        """Somebody is needed, and has not come.

        Raises:
            HumanAwaited: for longer than a robot waits.
        """
        now = self._clock()
        self._since = now if self._since is None else self._since
        if now - self._since > self._limit_s:
            raise HumanAwaited(robot=self._robot, reason=reason, limit_s=self._limit_s)

    def is_over(self) -> None:
        """Nobody is needed."""
        self._since = None
