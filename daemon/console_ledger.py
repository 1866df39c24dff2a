"""What `gymnastd ledger` shows on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Record = Mapping[str, Any]


def show_ledger(items: Sequence[Record], total: Record, *, console: Console | None = None) -> None:
    """Print one line per iteration and one for all of them."""
    table = Table("iteration", "episodes", "robot", "workers", "devices", "judge", "gain", "per robot hour")
    for item in items:
        table.add_row(str(item["iteration"]), *told(item))
    table.add_row("all", *told(total))
    (console or Console()).print(table if items else "no iteration in that time")


def told(costs: Record) -> tuple[str, ...]:
    """The columns beside the iteration's number."""
    return (
        str(costs["robot_episodes"]),
        f"{costs['robot_seconds'] / 3600:.2f} h",
        f"{sum(costs['worker_seconds'].values()) / 3600:.2f} h",
        "\n".join(
            f"{seconds / 3600:.2f} h {escape(name)}" for name, seconds in costs["device_seconds"].items()
        ),
        f"{costs['judge_requests']} for ${costs['judge_usd']:.2f}",
        points(costs["gain"]),
        points(costs["gain_per_robot_hour"]),
    )


def points(found: Record | None) -> str:
    """A difference of rates in percentage points with its interval."""
    if found is None:
        return ""
    value, low, high = (100 * found[name] for name in ("value", "low", "high"))
    return f"{value:+.0f} [{low:+.0f}, {high:+.0f}]"
