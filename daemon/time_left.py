"""How long work still takes, and how spans of time are said. For pages and terminals alike."""

from datetime import timedelta
from typing import Final

LEAST_DONE: Final = 0.02  # of some work; before, nobody can say how long the rest takes
NONE: Final = "–"


def time_left(progress: float, took_s: float | None) -> float | None:
    """Seconds that work still takes: as long again per share as it took so far. None: nobody can say.

    Args:
        progress: the share that is done, between 0 and 1.
        took_s: for how long it has run.
    """
    if took_s is None or progress < LEAST_DONE:
        return None
    return float(took_s * (1.0 - progress) / progress)


def duration(seconds: float | timedelta | None) -> str:
    """`2 h 05 min`, `4 min 10 s`, `12 s`."""
    if seconds is None:
        return NONE
    whole = round(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)
    hours, rest = divmod(max(0, whole), 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {left:02d} s" if minutes else f"{left} s"
