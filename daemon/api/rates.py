"""How often somebody may call: one bucket of calls per caller, filled at a steady rate up to a burst."""

import math
import time
from collections.abc import Callable

CALLERS_MAX = 10_000  # of those who called longest ago, nothing is kept


class Buckets:
    """Counts in this process only; to be used from one thread, the event loop's."""

    def __init__(self, *, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._calls_left: dict[str, tuple[float, float]] = {}  # and when that was so

    def take(self, who: str) -> int:
        """Take one call; gives 0, or the whole seconds to wait when none is left."""
        left = self._left_of(who)
        self._calls_left.pop(who, None)  # so that the order is that of the last calls
        self._calls_left[who] = (left - 1.0 if left >= 1.0 else left, self._clock())
        while len(self._calls_left) > CALLERS_MAX:
            del self._calls_left[next(iter(self._calls_left))]
        return self._wait(left)

    def wait_s(self, who: str) -> int:
        """The seconds until `take` would give 0; takes nothing."""
        return self._wait(self._left_of(who))

    def _left_of(self, who: str) -> float:
        left, at = self._calls_left.get(who, (self._burst, 0.0))
        return min(self._burst, left + (self._clock() - at) * self._per_s)

    def _wait(self, left: float) -> int:
        return 0 if left >= 1.0 else math.ceil((1.0 - left) / self._per_s)
