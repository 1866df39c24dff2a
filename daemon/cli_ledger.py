"""`gymnastd ledger`: what iterations cost and gained, from a running daemon."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from daemon.cli_rest import DEFAULT_URL, AsJson, Url

Record = Mapping[str, Any]

Instant = Annotated[str | None, typer.Option(help="A time with its zone, such as 2026-01-31T08:00:00Z.")]
Limit = Annotated[int, typer.Option(min=1, max=500, help="Of the newest so many iterations.")]


def ledger(
    since: Instant = None,
    until: Instant = None,
    limit: Limit = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show robot, worker and judge use per iteration, and the success gained per robot hour."""
    from daemon.client import DaemonClient

    answer = DaemonClient(url).ledger(**{"from": since, "to": until, "limit": limit})
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        show_ledger(answer["items"], answer["total"])


def show_ledger(items: Sequence[Record], total: Record, *, console: Console | None = None) -> None:
    """Print one line per iteration and one for all of them."""
    table = Table("iteration", "episodes", "robot", "workers", "judge", "gain", "per robot hour")
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
