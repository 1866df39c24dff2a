"""`gymnastd token`: who may call the REST API.

Without `--url` it acts on the database itself, on the daemon's machine; no daemon need run, and nobody is
asked for a token. The first token and the last one are made and revoked in this way.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.cli_rest import AsJson, TokenFile, client_of, moment, tell

if TYPE_CHECKING:
    from storage.db import Database

token_commands = typer.Typer(name="token", help="Who may call the REST API.", no_args_is_help=True)

ACTOR = "command line"  # in audit events

Name = Annotated[str, typer.Option(help="Whose token it is; audit events name it.")]
Scopes = Annotated[list[str], typer.Option("--scope", help="read, operate, label or admin; repeat it.")]
Days = Annotated[float | None, typer.Option(min=0.0, help="It ends after that many; without it, never.")]
Url = Annotated[
    str | None,
    typer.Option(help="Ask the daemon there, as an admin, instead of this machine's database."),
]


@token_commands.command("create")
def create_token(
    *,
    name: Name,
    scope: Scopes,
    expires_days: Days = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Make a token. It is printed once and kept nowhere; from then on the API asks everybody for one."""
    from daemon.access import instant, make_token, token_record
    from daemon.stores import utc_now

    now = utc_now()
    ends = None if expires_days is None else now + timedelta(days=expires_days)
    if url is not None:
        made = client_of(url, token_file).make_token(name, scope, expires_at=ends)
    else:
        with _database() as database, database.write() as session:
            row, token = make_token(session, ACTOR, name=name, scopes=scope, expires_at=ends, now=now)
            made = {**token_record(row, now=now), "token": token}
    tell(made, as_json, lambda: typer.echo(made["token"]))
    until = "until it is revoked" if ends is None else f"until {instant(ends)}"
    typer.echo(f"token {name} may {', '.join(made['scopes'])} {until}; it is not shown again", err=True)


@token_commands.command("revoke")
def revoke_token(
    name: Annotated[str, typer.Argument(help="Whose token it is.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """End a token; a running daemon refuses it within seconds."""
    from daemon.access import end_token
    from daemon.stores import utc_now
    from storage import access_tokens

    if url is not None:
        client_of(url, token_file).revoke_token(name)
        is_last = False  # a daemon would have refused
    else:
        with _database() as database, database.write() as session:
            end_token(session, ACTOR, name=name, now=utc_now())
            is_last = not access_tokens.any_in_force(session)
    document = {"name": name, "revoked": True, "was_last": is_last}
    tell(document, as_json, lambda: typer.echo(f"token {name} is revoked"))
    if is_last:
        typer.echo("it was the last: on this machine, the API asks nobody for a token any more", err=True)


@token_commands.command("list")
def list_tokens(as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """Show all tokens that ever were: name, scopes, state, last use. Their secrets are nowhere."""
    records = _records() if url is None else client_of(url, token_file).tokens()["items"]
    if as_json:
        typer.echo(json.dumps({"items": records}, indent=2))
        return
    for record in records:
        used = "never used" if record["last_used_at"] is None else f"used {_instant(record['last_used_at'])}"
        made = f"made {_instant(record['created_at'])}"
        typer.echo("\t".join((record["name"], ", ".join(record["scopes"]), record["state"], made, used)))
    if not records:
        typer.echo("there is no token; the API asks nobody on this machine for one")


def _records() -> list[dict[str, Any]]:
    """The tokens in this machine's database, as the API tells them."""
    from daemon.access import token_record
    from daemon.stores import utc_now
    from storage import access_tokens

    now = utc_now()
    with _database() as database, database.read() as session:
        rows = access_tokens.list_tokens(session)
    records = [token_record(row, now=now) for row in rows]
    told: list[dict[str, Any]] = json.loads(json.dumps(records, default=moment))
    return told


def _instant(text: str) -> str:
    from daemon.access import instant

    return instant(datetime.fromisoformat(text))


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
