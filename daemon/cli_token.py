"""`gymnastd token`: who may call the REST API. Acts on the database itself; no daemon need run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli_ops import AsJson

if TYPE_CHECKING:
    from storage.db import Database

token_commands = typer.Typer(name="token", help="Who may call the REST API.", no_args_is_help=True)

ACTOR = "command line"  # in audit events

Name = Annotated[str, typer.Option(help="Whose token it is; audit events name it.")]
Scopes = Annotated[list[str], typer.Option("--scope", help="read, operate, label or admin; repeat it.")]
Days = Annotated[float | None, typer.Option(min=0.0, help="It ends after that many; without it, never.")]


@token_commands.command("create")
def create_token(name: Name, scope: Scopes, expires_days: Days = None) -> None:
    """Make a token. It is printed once and kept nowhere; from then on the API asks everybody for one."""
    from daemon.access import instant, make_token
    from daemon.stores import utc_now

    now = utc_now()
    ends = None if expires_days is None else now + timedelta(days=expires_days)
    with _database() as database, database.write() as session:
        row, token = make_token(session, ACTOR, name=name, scopes=scope, expires_at=ends, now=now)
    typer.echo(token)
    until = "until it is revoked" if ends is None else f"until {instant(ends)}"
    typer.echo(f"token {name} may {', '.join(row.scopes)} {until}; it is not shown again", err=True)


@token_commands.command("revoke")
def revoke_token(name: Annotated[str, typer.Argument(help="Whose token it is.")]) -> None:
    """End a token; a running daemon refuses it within seconds."""
    from daemon.access import end_token
    from daemon.stores import utc_now
    from storage import access_tokens

    with _database() as database, database.write() as session:
        end_token(session, ACTOR, name=name, now=utc_now())
        is_last = not access_tokens.any_in_force(session)
    typer.echo(f"token {name} is revoked")
    if is_last:
        typer.echo("it was the last: on this machine, the API asks nobody for a token any more", err=True)


@token_commands.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """Show all tokens that ever were: name, scopes, state, last use. Their secrets are nowhere."""
    from daemon.access import instant, token_record
    from daemon.stores import utc_now
    from storage import access_tokens

    now = utc_now()
    with _database() as database, database.read() as session:
        rows = access_tokens.list_tokens(session)
    records = [token_record(row, now=now) for row in rows]
    if as_json:
        typer.echo(json.dumps({"items": records}, indent=2, default=datetime.isoformat))
        return
    for row, record in zip(rows, records, strict=True):
        used = "never used" if row.last_used_at is None else f"used {instant(row.last_used_at)}"
        made = f"made {instant(row.created_at)}"
        typer.echo("\t".join((row.name, ", ".join(row.scopes), record["state"], made, used)))
    if not rows:
        typer.echo("there is no token; the API asks nobody on this machine for one")


@contextmanager
def _database() -> "Iterator[Database]":
    """The database that the settings name, with this release's tables."""
    from daemon.settings import load_settings
    from daemon.stores import open_database

    database = open_database(load_settings())
    try:
        database.upgrade()
        yield database
    finally:
        database.dispose()
