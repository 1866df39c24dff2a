"""What an iteration was made from: `gymnastd manifest`, `gymnastd diff`, `gymnastd rerun`."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli_rest import DEFAULT_URL, AsJson, TokenFile, Url, client_of
from daemon.exit_status import DIFFERENT

Which = Annotated[int, typer.Argument(min=1, help="The iteration's number.")]
Other = Annotated[int, typer.Argument(min=1, help="The iteration to compare it with.")]


def manifest(number: Which, url: Url = DEFAULT_URL, token_file: TokenFile = None) -> None:
    """Print what each phase of an iteration read, and what came of it, as JSON."""
    typer.echo(json.dumps(client_of(url, token_file).manifest(number), indent=2))


def diff(
    number: Which, other: Other, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Show what differs from one iteration to another, and what both measured."""
    from daemon.console_diff import show_diff

    answer = client_of(url, token_file).diff(number, other)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        show_diff(answer)


def rerun(
    number: Which,
    out: Annotated[Path, typer.Option(help="A new folder: gets the checkpoints and rerun.json.")],
    data_dir: Annotated[Path | None, typer.Option(help="Of the daemon that ran the iteration.")] = None,
) -> None:
    """Do the learning phases of an iteration again and compare the checkpoints bit for bit.

    The daemon's store is only read. Exit status 3: something came out different.
    """
    from daemon.logs import configure_logging
    from daemon.redaction import secrets_of
    from daemon.rerun.plan import learning_phases, threads_of
    from daemon.settings import load_settings
    from daemon.stores import open_database
    from daemon.supervisor import thread_environment

    settings = load_settings(data_dir=data_dir)
    configure_logging("WARNING", secrets_of(settings))
    database = open_database(settings)
    try:
        database.require_current()
        threads = max(threads_of(kept) for kept in learning_phases(database, number))
    finally:
        database.dispose()
    os.environ.update(thread_environment(threads))  # torch reads it when imported
    from daemon.rerun.run import rerun as do_again

    compared = do_again(settings, number, out=out, report=typer.echo)
    if not all(each.equal for each in compared):
        raise typer.Exit(DIFFERENT)
