"""Commands that talk to a running daemon and to nothing else: iterate, status, success-rates."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from daemon.errors import RequestInvalid

DEFAULT_URL = "http://127.0.0.1:8400"

Url = Annotated[str, typer.Option(help="Address of the daemon.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the daemon's answer as it is.")]
Number = Annotated[
    int | None, typer.Argument(min=1, help="Of this iteration; without it, of the newest ones.")
]


def iterate(
    spec: Annotated[Path | None, typer.Option(help="A JSON file with the iteration's spec.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the spec's.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be repeated.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key asks only once.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Ask for one iteration: collect, finetune the world model, update the policy."""
    from daemon.client import DaemonClient
    from daemon.console import follow, show_iteration

    document = read_spec(spec)
    if seed is not None:
        document["seed"] = seed
    if task:
        document["tasks"] = task
    client = DaemonClient(url)
    record = client.request_iteration(document, idempotency_key=key)
    typer.echo(f"iteration {record['number']} is {record['state']}")
    if wait:
        show_iteration(follow(client, record["number"]))


def status(number: Number = None, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show how an iteration stands, or list the newest ones."""
    from daemon.client import DaemonClient
    from daemon.console import show_iteration, show_iterations

    client = DaemonClient(url)
    answer = client.iterations() if number is None else client.iteration(number)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    elif number is None:
        show_iterations(answer["items"])
    else:
        show_iteration(answer)


def success_rates(as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show real success rates per iteration and task, k/n with the Wilson 95 % interval."""
    from daemon.client import DaemonClient
    from daemon.console import show_success_rates

    answer = DaemonClient(url).success_rates()
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        show_success_rates(answer["items"])


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
