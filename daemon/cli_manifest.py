"""What an iteration was made from: `gymnastd manifest`, `gymnastd diff`, `gymnastd rerun`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli_json import aside, tell_kept
from daemon.cli_rest import DEFAULT_URL, AsJson, TokenFile, Url, client_of, say_json, tell
from daemon.exit_status import DIFFERENT

Which = Annotated[int, typer.Argument(min=1, help="The iteration's number.")]
Other = Annotated[int, typer.Argument(min=1, help="The iteration to compare it with.")]


def manifest(
    number: Which,
    as_json: Annotated[bool, typer.Option("--json", help="It is JSON with and without.")] = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Print what each phase of an iteration read, and what came of it, as JSON."""
    say_json(client_of(url, token_file).manifest(number))


def diff(
    number: Which, other: Other, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Show what differs from one iteration to another, and what both measured."""
    from daemon.console_diff import show_diff

    answer = client_of(url, token_file).diff(number, other)
    tell(answer, as_json, lambda: show_diff(answer))


def rerun(
    number: Which,
    out: Annotated[Path, typer.Option(help="A new folder: gets the checkpoints and rerun.json.")],
    data_dir: Annotated[Path | None, typer.Option(help="Of the daemon that ran the iteration.")] = None,
    as_json: AsJson = False,
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
    from daemon.progress_bar import Bars
    from daemon.rerun.run import REPORT
    from daemon.rerun.run import rerun as do_again

    with aside(as_json), Bars() as bars:
        compared = do_again(settings, number, out=out, bars=bars)
    tell_kept(out / REPORT, as_json)
    if not all(each.equal for each in compared):
        raise typer.Exit(DIFFERENT)
