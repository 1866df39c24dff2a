"""`gymnastd ledger`: what iterations cost and gained, from a running daemon."""

import json
from typing import Annotated

import typer

from daemon.cli_rest import DEFAULT_URL, AsCsv, AsJson, Instant, OfLineage, TokenFile, Url, client_of, one_of

Limit = Annotated[int, typer.Option(min=1, max=500, help="Of the newest so many iterations.")]


def ledger(
    *,
    since: Instant = None,
    until: Instant = None,
    lineage: OfLineage = None,
    limit: Limit = 20,
    csv: AsCsv = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show robot, worker, device and judge use per iteration, and the success gained per robot hour."""
    from daemon.console_ledger import show_ledger

    filters = {"from": since, "to": until, "lineage": lineage, "limit": limit}
    one_of(csv, as_json)
    client = client_of(url, token_file)
    if csv:
        typer.echo(client.ledger_csv(**filters), nl=False)
        return
    answer = client.ledger(**filters)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        show_ledger(answer["items"], answer["total"])
