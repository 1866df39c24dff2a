"""Commands for people who look on: watch, events, logs; label, for who knows better than the judge; note."""

import getpass
import json
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any

import typer

from daemon.cli_rest import DEFAULT_URL, AsJson, TokenFile, Url, client_of, tell

Kinds = Annotated[list[str] | None, typer.Option("--kind", help="Only this kind; may be repeated.")]


class Verdict(StrEnum):
    """What somebody says of an episode."""

    success = "success"
    failure = "failure"
    unknown = "unknown"


SUCCESS = {Verdict.success: True, Verdict.failure: False, Verdict.unknown: None}


def watch(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document per change.")] = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show robots, running phases with the time that they still take, and what happens, until Ctrl-C."""
    from daemon.event_stream import follow_events
    from daemon.watching import LAST_EVENTS, Lines, View, looking_at, show

    client = client_of(url, token_file)
    items = client.events(limit=LAST_EVENTS)["items"]
    after = items[0]["id"] if items else 0
    asking = client_of(url, token_file)  # a client serves one thread
    view = Lines(reversed(items), say=typer.echo) if as_json else View(reversed(items))
    with suppress(KeyboardInterrupt), looking_at(view, lambda: asking.standing()["items"]):
        stream = follow_events(client, after=after)
        if isinstance(view, View):
            show(view, stream)
        else:
            for told in stream:
                view.take(told)


def events(
    kind: Kinds = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many of the newest.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", help="Then go on with what happens.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show what happened, oldest first, one line each."""
    from daemon.event_stream import follow_events
    from daemon.watching import event_line

    def tell(event: dict[str, Any]) -> None:
        typer.echo(json.dumps(event) if as_json else event_line(event))

    client, kinds = client_of(url, token_file), kind or []
    items = client.events(limit=limit, kind=kinds)["items"]
    for event in reversed(items):
        tell(event)
    if follow:
        with suppress(KeyboardInterrupt):
            for told in follow_events(client, after=items[0]["id"] if items else 0, kinds=kinds):
                if told.position is not None:
                    tell(told.document)


def logs(
    number: Annotated[int, typer.Argument(min=1, help="The iteration.")],
    *,
    phase: Annotated[str | None, typer.Option(help="Of this phase; without it, of the last started.")] = None,
    attempt: Annotated[int | None, typer.Option(min=1, help="Without it, the last started.")] = None,
    tail: Annotated[int, typer.Option(min=1, max=5000, help="How many lines of the end.")] = 200,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show what the worker wrote during a phase."""
    from daemon.errors import PageNotFound

    client = client_of(url, token_file)
    runs = [run for run in client.iteration(number)["phases"] if run["started_at"]]
    wanted = [run for run in runs if phase in {None, run["phase"]} and attempt in {None, run["attempt"]}]
    if not wanted:
        raise PageNotFound(what="started attempt at a phase of iteration", key=number)
    last = max(wanted, key=lambda run: run["started_at"])
    text = client.phase_log(number, last["phase"], last["attempt"], tail=tail)
    document = {"iteration": number, "phase": last["phase"], "attempt": last["attempt"]}
    tell({**document, "lines": text.splitlines()}, as_json, lambda: typer.echo(text, nl=False))


def label(
    episode: Annotated[str, typer.Argument(help="The episode's id.")],
    verdict: Annotated[Verdict, typer.Argument(help="What it was.")],
    *,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    labeller: Annotated[str | None, typer.Option(help="Who says so; without it, your login name.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key adds only once.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Say whether an episode was a success; the newest human verdict counts, and none is ever deleted."""
    document = {"success": SUCCESS[verdict], "labeller": labeller or getpass.getuser(), "note": note}
    kept = client_of(url, token_file).label(episode, document, idempotency_key=key)
    counts = "it counts" if kept["counts"] else "it does not count"
    said = f"episode {episode}: {verdict.value} by {kept['who']}, {counts}"
    tell(kept, as_json, lambda: typer.echo(said))


def note(
    episode: Annotated[str, typer.Argument(help="The episode's id.")],
    text: Annotated[str, typer.Argument(help="What you saw.")],
    *,
    author: Annotated[str | None, typer.Option(help="Who writes it; without it, your login name.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key adds only once.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Write a note on an episode without judging it: it counts nowhere, and none is ever deleted."""
    document = {"text": text, "author": author or getpass.getuser()}
    kept = client_of(url, token_file).note(episode, document, idempotency_key=key)
    tell(kept, as_json, lambda: typer.echo(f"episode {episode} has a note by {kept['author']}"))
