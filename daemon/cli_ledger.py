"""`gymnastd ledger`: what iterations cost and gained, from a running daemon."""

import json
from typing import Annotated

import typer

from daemon.cli_rest import DEFAULT_URL, AsJson, Url

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
    from daemon.console_ledger import show_ledger

    answer = DaemonClient(url).ledger(**{"from": since, "to": until, "limit": limit})
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        show_ledger(answer["items"], answer["total"])
