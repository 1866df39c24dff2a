"""`gymnastd token`: who may call the REST API. Acts on the database itself; no daemon need run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.cli_ops import AsJson

if TYPE_CHECKING:
    from datetime import datetime

    from storage.access_token_tables import AccessTokenRow
    from storage.db import Database

token_commands = typer.Typer(name="token", help="Who may call the REST API.", no_args_is_help=True)

ACTOR = "command line"  # in audit events

Name = Annotated[str, typer.Option(help="Whose token it is; audit events name it.")]
Scopes = Annotated[list[str], typer.Option("--scope", help="read, operate, label or admin; repeat it.")]
Days = Annotated[float | None, typer.Option(min=0.0, help="It ends after that many; without it, never.")]


@token_commands.command("create")
def create_token(name: Name, scope: Scopes, expires_days: Days = None) -> None:
    """Make a token. It is printed once and kept nowhere; from then on the API asks everybody for one."""
    from daemon.stores import utc_now
    from storage import access_tokens, audit

    now = utc_now()
    ends = None if expires_days is None else now + timedelta(days=expires_days)
    with _database() as database, database.write() as session:
        row, token = access_tokens.create(session, name, scopes=scope, expires_at=ends, now=now)
        facts = {"id": row.id, "scopes": row.scopes, "expires_at": None if ends is None else str(ends)}
        audit.write(session, ACTOR, action="token_created", subject=_subject(name), facts=facts, now=now)
    typer.echo(token)
    until = "until it is revoked" if ends is None else f"until {_instant(ends)}"
    typer.echo(f"token {name} may {', '.join(row.scopes)} {until}; it is not shown again", err=True)


@token_commands.command("revoke")
def revoke_token(name: Annotated[str, typer.Argument(help="Whose token it is.")]) -> None:
    """End a token; a running daemon refuses it within seconds."""
    from daemon.stores import utc_now
    from storage import access_tokens, audit

    now = utc_now()
    with _database() as database, database.write() as session:
        row = access_tokens.revoke(session, name, now=now)
        facts = {"id": row.id}
        audit.write(session, ACTOR, action="token_revoked", subject=_subject(name), facts=facts, now=now)
        is_last = not access_tokens.any_in_force(session)
    typer.echo(f"token {name} is revoked")
    if is_last:
        typer.echo("it was the last: on this machine, the API asks nobody for a token any more", err=True)


@token_commands.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """Show all tokens that ever were: name, scopes, state, last use. Their secrets are nowhere."""
    from daemon.stores import utc_now
    from storage import access_tokens

    with _database() as database, database.read() as session:
        rows = access_tokens.list_tokens(session)
    if as_json:
        typer.echo(json.dumps({"items": [_document(row, utc_now()) for row in rows]}, indent=2))
        return
    for row in rows:
        used = "never used" if row.last_used_at is None else f"used {_instant(row.last_used_at)}"
        made = f"made {_instant(row.created_at)}"
        typer.echo("\t".join((row.name, ", ".join(row.scopes), _state(row, utc_now()), made, used)))
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


def _document(row: "AccessTokenRow", now: "datetime") -> dict[str, Any]:
    times = {name: getattr(row, name) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    told = {name: None if at is None else at.isoformat() for name, at in times.items()}
    return {"name": row.name, "scopes": list(row.scopes), "state": _state(row, now), **told}


def _state(row: "AccessTokenRow", now: "datetime") -> str:
    if row.revoked_at is not None:
        return f"revoked {_instant(row.revoked_at)}"
    if row.expires_at is None:
        return "in force"
    return f"{'ended' if row.expires_at <= now else 'in force until'} {_instant(row.expires_at)}"


def _instant(at: "datetime") -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _subject(name: str) -> str:
    return f"access token {name}"
