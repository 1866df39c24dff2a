"""Commands that talk to a running daemon and to nothing else: iterate, status, success-rates."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.cli_policy import read_token
from daemon.errors import RequestInvalid

if TYPE_CHECKING:
    from daemon.client import DaemonClient

DEFAULT_URL = "http://127.0.0.1:8400"

Url = Annotated[str, typer.Option(help="Address of the daemon.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(envvar="GYMNASTD_TOKEN_FILE", help="Holds the token that the daemon asks for."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
OfLineage = Annotated[str | None, typer.Option("--lineage", help="Of this lineage only.")]
Instant = Annotated[str | None, typer.Option(help="A time with its zone, such as 2026-01-31T08:00:00Z.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")]
Number = Annotated[
    int | None, typer.Argument(min=1, help="Of this iteration; without it, of the newest ones.")
]


def iterate(
    *,
    spec: Annotated[Path | None, typer.Option(help="A JSON file with the iteration's spec.")] = None,
    lineage: Annotated[str | None, typer.Option(help="Instead of the spec's; main where none.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the spec's.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be repeated.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key asks only once.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Ask for one iteration: collect, finetune the world model, update the policy."""
    from daemon.console import follow, show_iteration

    instead = {"lineage": lineage, "seed": seed, "tasks": task or None}
    document = read_spec(spec) | {name: value for name, value in instead.items() if value is not None}
    client = client_of(url, token_file)
    record = client.request_iteration(document, idempotency_key=key)
    if wait and as_json:
        typer.echo(json.dumps(client.wait(record["number"]), indent=2))
        return
    tell(record, as_json, lambda: typer.echo(f"iteration {record['number']} is {record['state']}"))
    if wait:
        show_iteration(follow(client, record["number"]))


def status(
    number: Number = None,
    lineage: OfLineage = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show how an iteration stands, or list the newest ones."""
    from daemon.console import show_iteration, show_iterations

    client = client_of(url, token_file)
    answer = client.iterations(lineage=lineage) if number is None else client.iteration(number)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    elif number is None:
        show_iterations(answer["items"])
    else:
        show_iteration(answer)


def success_rates(
    *,
    by: Annotated[
        str | None,
        typer.Option(help="Keep apart: some of iteration,task,policy,station. Without it, each iteration's."),
    ] = None,
    lineage: OfLineage = None,
    since: Instant = None,
    until: Instant = None,
    csv: AsCsv = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show real success rates, k/n with the Wilson 95 % interval."""
    from daemon.console import show_success_rates
    from daemon.console_look import show_groups

    one_of(csv, as_json)
    client = client_of(url, token_file)
    filters = {"by": by, "lineage": lineage, "from": since, "to": until}
    if csv:
        typer.echo(client.success_rates_csv(**filters), nl=False)
        return
    answer = client.success_rates(**filters)
    show = show_success_rates if by is None else show_groups
    tell(answer, as_json, lambda: show(answer["items"]))


def one_of(csv: bool, as_json: bool) -> None:
    """Refuse to print two things at once."""
    if csv and as_json:
        raise typer.BadParameter("give one of --csv and --json")


def tell(answer: Any, as_json: bool, words: Callable[[], object]) -> None:
    """Print an answer as JSON, or say it in words."""
    if as_json:
        say_json(answer)
    else:
        words()


def say_json(answer: Any) -> None:
    """Print one JSON document; moments are ISO 8601, as the API writes them."""
    typer.echo(json.dumps(answer, indent=2, default=moment))


def moment(value: datetime) -> str:
    """A moment in UTC as the API writes it."""
    return value.isoformat().replace("+00:00", "Z")


def client_of(url: str, token_file: Path | None) -> "DaemonClient":
    """A client that shows the token of a file, when there is one; the token is in no argument."""
    from daemon.client import DaemonClient

    return DaemonClient(url, token=None if token_file is None else read_token(token_file))


def read_spec(path: Path | None) -> dict[str, Any]:
    """Read a spec file; its fields are judged by the daemon.

    Raises:
        RequestInvalid: the file is not there, or not a JSON object.
    """
    if path is None:
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failed:
        raise RequestInvalid(faults={str(path): str(failed)}) from None
    if not isinstance(document, dict):
        raise RequestInvalid(faults={str(path): "expected a JSON object"})
    return document
