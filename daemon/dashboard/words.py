"""Numbers and times as pages say them. Templates use these as filters."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from daemon.time_left import NONE, duration
from daemon.trial import carried_text

PHASES = {
    "collect": "Collect",
    "finetune_world_model": "Finetune the world model",
    "update_policy": "Update the policy",
}


def moment(at: datetime | str | None) -> str:
    """A time to the second; always UTC."""
    if at is None:
        return NONE
    parsed = datetime.fromisoformat(at) if isinstance(at, str) else at
    return parsed.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def percent(share: float | None) -> str:
    """`42 %`."""
    return NONE if share is None else f"{100 * share:.0f} %"


def signed(value: float | None) -> str:
    """`+0.08`."""
    return NONE if value is None else f"{value:+.2f}"


def number(value: float | None) -> str:
    """At most four digits that say something."""
    return NONE if value is None else f"{value:.4g}"


def count(rate: Mapping[str, Any] | None) -> str:
    """`7 of 10`."""
    return NONE if not rate or not rate["episodes"] else f"{rate['successes']} of {rate['episodes']}"


def interval(rate: Mapping[str, Any] | None) -> str:
    """`40 to 89 %`."""
    if not rate or not rate["episodes"]:
        return NONE
    return f"{100 * rate['wilson_low']:.0f} to {100 * rate['wilson_high']:.0f} %"


def estimate(found: Mapping[str, float] | None) -> str:
    """`+0.20 (-0.05 to +0.45)`."""
    if found is None:
        return NONE
    return f"{found['value']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"


def verdict(success: bool | None) -> str:
    """What a label says."""
    return {True: "success", False: "failure", None: "unknown"}[success]


def phase(name: str) -> str:
    """A phase as a heading."""
    return PHASES.get(name, name)


def size(count_of_bytes: int) -> str:
    """`12.3 MB`."""
    return f"{count_of_bytes / 1e6:.1f} MB"


def short(text: str | None) -> str:
    """The first letters of an id; the whole id is in the title beside it."""
    return NONE if text is None else text[:8]


FILTERS: Mapping[str, Callable[..., str]] = {
    one.__name__: one
    for one in (
        moment, duration, percent, signed, number, count, interval, estimate, verdict, phase, size, short,
        carried_text,
    )
}  # fmt: skip
